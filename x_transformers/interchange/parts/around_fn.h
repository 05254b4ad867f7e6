// Arguments of a module that is wrapped around another one, and of modules given as values.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>

#include "x_transformers/core/compat.h"
#include "x_transformers/core/options.h"
#include "x_transformers/interchange/arguments.h"

namespace x_transformers {

/// Options of a wrapping module, with the module inside, which is built from them.
template <class Options>
struct AroundFn : Options {
  ModuleSpec fn = {};
  Compat compat = {};  ///< of the whole model; no option of the class

  template <class Visitor>
  void fields(Visitor& v) {
    Options::fields(v);
    v.required("fn", fn, "module inside, whose inputs or output are changed");
  }
};

/// The tensors beside x that modules given as values take, by their names in Python, of those that
/// a call gives. Who reads `condition` itself takes the rest.
std::map<std::string, at::Tensor> take_beside_x(Arguments& arguments, bool with_condition = true);

}  // namespace x_transformers
