// Options of what may be wrapped around a block, or joins blocks.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "x_transformers/core/options.h"

namespace x_transformers {

struct ScaleOptions {
  /// factor of the output
  double value = 1.0;

  template <class Visitor>
  void fields(Visitor& v) {
    v("value", value, "factor of the output");
  }
};

struct ShiftTokensOptions {
  /// for each group of features, how many tokens later it comes
  std::vector<int64_t> shifts = {};

  template <class Visitor>
  void fields(Visitor& v) {
    v("shifts", shifts, "for each group of features, how many tokens later it comes");
  }
};

struct FoldAxiallyOptions {
  /// the sequence is folded to this many interleaved ones
  int64_t axial_dim = 0;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("axial_dim", axial_dim, "the sequence is folded to this many interleaved ones");
  }
};

struct LayerScaleOptions {
  /// features of the output
  int64_t dim = 0;
  /// factor at the start (arXiv:2103.17239)
  double init_value = 0.0;
  /// the factor is stored as an offset from one
  bool unit_offset = false;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("dim", dim, "features of the output");
    v.free("init_value", init_value, "factor at the start", "arXiv:2103.17239");
    v("unit_offset", unit_offset, "the factor is stored as an offset from one");
  }
};

struct AdaptiveLayerScaleOptions {
  /// features of the output
  int64_t dim = 0;
  /// features of the condition; default: dim (arXiv:2212.09748)
  std::optional<int64_t> dim_condition = std::nullopt;
  /// the factor starts at the sigmoid of it
  double init_bias_value = -2.0;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("dim", dim, "features of the output");
    v("dim_condition", dim_condition, "features of the condition; default: dim",
      "arXiv:2212.09748");
    v.free("init_bias_value", init_bias_value, "the factor starts at the sigmoid of it");
  }
};

struct ConcatCombineOptions {
  /// features
  int64_t dim = 0;
  /// the earlier layer whose output is joined in
  int64_t prev_layer_ind = 0;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("dim", dim, "features");
    v("prev_layer_ind", prev_layer_ind, "the earlier layer whose output is joined in");
  }
};

}  // namespace x_transformers
