// Constructor arguments of Attend, of activations and of what wraps another module, in Python's
// names and defaults.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "x_transformers/core/options.h"
#include "x_transformers/nn/attend.h"

namespace x_transformers {

// Blocks and activations

struct ScaleOptions {
  double value = 1.0;
  ModuleSpec fn = {};

  template <class Visitor>
  void fields(Visitor& v) {
    v("value", value, "factor of the output");
    v.required("fn", fn, "module whose output is scaled");
  }
};

struct ShiftTokensOptions {
  std::vector<int64_t> shifts = {};
  ModuleSpec fn = {};

  template <class Visitor>
  void fields(Visitor& v) {
    v("shifts", shifts, "for each group of features, how many tokens later it comes");
    v.required("fn", fn, "module that gets the shifted features");
  }
};

struct FoldAxiallyOptions {
  int64_t axial_dim = 0;
  ModuleSpec fn = {};

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("axial_dim", axial_dim, "the sequence is folded to this many interleaved ones");
    v.required("fn", fn, "module that gets the folded sequence");
  }
};

struct LayerScaleOptions {
  ModuleSpec fn = {};
  int64_t dim = 0;
  double init_value = 0.0;
  bool unit_offset = false;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("fn", fn, "module whose output is scaled");
    v.required("dim", dim, "features of the output");
    v("init_value", init_value, "factor at the start", "arXiv:2103.17239");
    v("unit_offset", unit_offset, "the factor is stored as an offset from one");
  }
};

struct AdaptiveLayerScaleOptions {
  ModuleSpec fn = {};
  int64_t dim = 0;
  std::optional<int64_t> dim_condition = std::nullopt;
  double init_bias_value = -2.0;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("fn", fn, "module whose output is scaled");
    v.required("dim", dim, "features of the output");
    v("dim_condition", dim_condition, "features of the condition; default: dim",
      "arXiv:2212.09748");
    v("init_bias_value", init_bias_value, "the factor starts at the sigmoid of it");
  }
};

/// Attend's options and a module for cope, which Attention makes by itself.
struct AttendPartOptions : AttendOptions {
  std::optional<ModuleSpec> cope = std::nullopt;

  template <class Visitor>
  void fields(Visitor& v) {
    v("heads", heads, "attention heads");
    v("causal", causal, "no key after its query");
    v("qk_norm", qk_norm, "queries and keys are normalised");
    v("scale", scale, "factor of the scores; default: dim_head ** -0.5");
    score_fields(v);
    v("sdp_kwargs", sdp_kwargs, "which engines may run");
    v("cope", cope, "contextual positions: a CoPE", "arXiv:2405.18719");
  }
};

}  // namespace x_transformers
