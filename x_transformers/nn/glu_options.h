// Options of GLU.
#pragma once

#include <cstdint>

#include "x_transformers/core/compat.h"
#include "x_transformers/core/options.h"

namespace x_transformers {

struct GLUOptions {
  /// input features
  int64_t dim_in = 0;
  /// output features
  int64_t dim_out = 0;
  /// activation of the gate (arXiv:2002.05202)
  ModuleSpec activation = {};
  /// a learned factor for each feature
  bool mult_bias = false;
  Compat compat = {};  ///< of the whole model; no option of the class

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("dim_in", dim_in, "input features");
    v.required("dim_out", dim_out, "output features");
    v("activation", activation, "activation of the gate", "arXiv:2002.05202");
    v("mult_bias", mult_bias, "a learned factor for each feature");
  }
};

}  // namespace x_transformers
