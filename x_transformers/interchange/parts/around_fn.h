// Arguments of a module that is wrapped around another one.
#pragma once

#include "x_transformers/core/compat.h"
#include "x_transformers/core/options.h"

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

}  // namespace x_transformers
