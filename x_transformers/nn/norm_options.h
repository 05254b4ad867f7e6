// Options of the normalisation layers, in Python's names and defaults.
#pragma once

#include <cstdint>
#include <optional>

#include "x_transformers/core/options.h"

namespace x_transformers {

/// Of a module whose one option is its number of features.
struct DimOptions {
  /// features
  int64_t dim = 0;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("dim", dim, "features");
  }
};

/// LayerNorm, RMSNorm and ScaleNorm.
struct NormModuleOptions {
  /// features
  int64_t dim = 0;
  /// gains are stored as an offset from one
  bool unit_offset = false;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("dim", dim, "features");
    v("unit_offset", unit_offset, "gains are stored as an offset from one");
  }
};

struct AdaptiveNormOptions {
  /// features
  int64_t dim = 0;
  /// features of the condition; default: dim
  std::optional<int64_t> dim_condition = std::nullopt;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("dim", dim, "features");
    v("dim_condition", dim_condition, "features of the condition; default: dim");
  }
};

struct MultiheadRMSNormOptions {
  /// features of a head
  int64_t dim = 0;
  /// attention heads
  int64_t heads = 0;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("dim", dim, "features of a head");
    v.required("heads", heads, "attention heads");
  }
};

struct DynamicTanhOptions {
  /// features
  int64_t dim = 0;
  /// factor inside of tanh at the start (arXiv:2503.10622)
  double init_alpha = 1.0;
  /// no effect, as in Python: the gain starts at one
  double gamma = 1.0;
  /// no effect, as in Python: the shift starts at zero
  double beta = 0.0;
  /// the gain is stored as an offset from one, the factor as one from init_alpha
  bool unit_offset = false;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("dim", dim, "features");
    v.free("init_alpha", init_alpha, "factor inside of tanh at the start", "arXiv:2503.10622");
    v("gamma", gamma, "no effect, as in Python: the gain starts at one");
    v("beta", beta, "no effect, as in Python: the shift starts at zero");
    v("unit_offset", unit_offset,
      "the gain is stored as an offset from one, the factor as one from init_alpha");
  }
};

struct DerfOptions {
  /// features
  int64_t dim = 0;
  /// factor inside of erf at the start (arXiv:2512.10938)
  double init_alpha = 0.5;
  /// shift inside of erf at the start
  double init_bias = 0.0;
  /// gain and factor are stored as offsets from one
  bool unit_offset = false;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("dim", dim, "features");
    v.free("init_alpha", init_alpha, "factor inside of erf at the start", "arXiv:2512.10938");
    v.free("init_bias", init_bias, "shift inside of erf at the start");
    v("unit_offset", unit_offset, "gain and factor are stored as offsets from one");
  }
};

}  // namespace x_transformers
