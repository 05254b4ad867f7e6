// Options of position biases, rotary, polar and contextual positions, in Python's names and
// defaults.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "x_transformers/core/options.h"

namespace x_transformers {

struct RelativePositionBiasOptions {
  double scale = 0.0;
  bool causal = false;
  int64_t num_buckets = 32;
  int64_t max_distance = 128;
  int64_t heads = 8;

  template <class Visitor>
  void fields(Visitor& v) {
    v("scale", scale, "factor of the bias");
    v("causal", causal, "all buckets are for keys before the query", "arXiv:1910.10683");
    v("num_buckets", num_buckets, "buckets of distances");
    v("max_distance", max_distance, "distance from which all share a bucket");
    v.size("heads", heads, "attention heads");
  }
};

struct DynamicPositionBiasOptions {
  int64_t dim = 0;
  int64_t heads = 0;
  int64_t depth = 0;
  bool log_distance = false;
  bool norm = false;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("dim", dim, "hidden features", "arXiv:2111.09883");
    v.required("heads", heads, "attention heads");
    v.required("depth", depth, "hidden layers");
    v("log_distance", log_distance, "the logarithm of the distance goes in");
    v("norm", norm, "layer norms");
  }
};

struct AlibiPositionalBiasOptions {
  int64_t heads = 0;
  std::optional<int64_t> total_heads = std::nullopt;
  std::optional<std::vector<double>> slopes = std::nullopt;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("heads", heads, "heads with a slope", "arXiv:2108.12409");
    v("total_heads", total_heads, "all heads; default: heads");
    v("slopes", slopes, "a slope for each head; default: those of the paper");
  }
};

/// With those that Attention has from its own options.
struct DataDependentAlibiModuleOptions {
  int64_t dim = 0;
  int64_t heads = 0;
  bool causal = true;
  double bias_init = 5.0;
  double post_log_scale = 1.0;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("dim", dim, "features");
    v.required("heads", heads, "attention heads");
    v("causal", causal, "forget gates in one direction only");
    v("bias_init", bias_init, "bias of the gates at the start");
    v("post_log_scale", post_log_scale, "factor of the gates' logarithm");
  }
};

struct PerRowDataDependentAlibiOptions {
  int64_t dim = 0;
  int64_t heads = 0;
  bool causal = true;
  int64_t dim_head = 8;
  double post_log_scale = 1.0;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("dim", dim, "features");
    v.required("heads", heads, "attention heads");
    v("causal", causal, "must be true");
    v("dim_head", dim_head, "features of the small queries and keys");
    v("post_log_scale", post_log_scale, "factor of the gates' logarithm");
  }
};

struct RotaryEmbeddingOptions {
  int64_t dim = 0;
  bool use_xpos = false;
  double scale_base = 512.0;
  double interpolation_factor = 1.0;
  double base = 10000.0;
  double base_rescale_factor = 1.0;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("dim", dim, "features that are rotated", "arXiv:2104.09864");
    v("use_xpos", use_xpos, "a decay with the distance", "arXiv:2212.10554");
    v("scale_base", scale_base, "of the decay");
    v("interpolation_factor", interpolation_factor, "positions are divided by it",
      "arXiv:2306.15595");
    v("base", base, "base of the frequencies");
    v("base_rescale_factor", base_rescale_factor, "NTK-aware rescaling of the base");
  }
};

struct PolarEmbeddingOptions {
  int64_t dim = 0;
  int64_t heads = 0;
  bool bias_uniform_init = false;
  double base = 10000.0;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("dim", dim, "features of a head", "arXiv:2509.10534");
    v.required("heads", heads, "attention heads");
    v("bias_uniform_init", bias_uniform_init, "the bias of the keys starts at random; else zero");
    v("base", base, "base of the frequencies");
  }
};

struct CoPEOptions {
  int64_t dim = 0;
  int64_t heads = 0;
  int64_t max_pos = 0;
  bool soft_onehot = false;
  bool talking_heads = false;
  double soft_onehot_temp = 5e-2;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("dim", dim, "features of a head", "arXiv:2405.18719");
    v.required("heads", heads, "attention heads");
    v.required("max_pos", max_pos, "maximum position");
    v("soft_onehot", soft_onehot, "all positions weighted by closeness, not the two around");
    v("talking_heads", talking_heads, "heads mixed before positions are counted");
    v("soft_onehot_temp", soft_onehot_temp, "temperature of soft_onehot");
  }
};

}  // namespace x_transformers
