// Options of position biases, rotary, polar and contextual positions, in Python's names and
// defaults.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "x_transformers/core/options.h"

namespace x_transformers {

struct RelativePositionBiasOptions {
  /// factor of the bias
  double scale = 0.0;
  /// all buckets are for keys before the query (arXiv:1910.10683)
  bool causal = false;
  /// buckets of distances
  int64_t num_buckets = 32;
  /// distance from which all share a bucket
  int64_t max_distance = 128;
  /// attention heads
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
  /// hidden features (arXiv:2111.09883)
  int64_t dim = 0;
  /// attention heads
  int64_t heads = 0;
  /// hidden layers
  int64_t depth = 0;
  /// the logarithm of the distance goes in
  bool log_distance = false;
  /// layer norms
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
  /// heads with a slope (arXiv:2108.12409)
  int64_t heads = 0;
  /// all heads; default: heads
  std::optional<int64_t> total_heads = std::nullopt;
  /// a slope for each head; default: those of the paper
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
  /// features
  int64_t dim = 0;
  /// attention heads
  int64_t heads = 0;
  /// forget gates in one direction only
  bool causal = true;
  /// bias of the gates at the start
  double bias_init = 5.0;
  /// factor of the gates' logarithm
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
  /// features
  int64_t dim = 0;
  /// attention heads
  int64_t heads = 0;
  /// must be true
  bool causal = true;
  /// features of the small queries and keys
  int64_t dim_head = 8;
  /// factor of the gates' logarithm
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
  /// features that are rotated (arXiv:2104.09864)
  int64_t dim = 0;
  /// a decay with the distance (arXiv:2212.10554)
  bool use_xpos = false;
  /// of the decay
  double scale_base = 512.0;
  /// positions are divided by it (arXiv:2306.15595)
  double interpolation_factor = 1.0;
  /// base of the frequencies
  double base = 10000.0;
  /// NTK-aware rescaling of the base
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
  /// features of a head (arXiv:2509.10534)
  int64_t dim = 0;
  /// attention heads
  int64_t heads = 0;
  /// the bias of the keys starts at random; else zero
  bool bias_uniform_init = false;
  /// base of the frequencies
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
  /// features of a head (arXiv:2405.18719)
  int64_t dim = 0;
  /// attention heads
  int64_t heads = 0;
  /// maximum position
  int64_t max_pos = 0;
  /// all positions weighted by closeness, not the two around
  bool soft_onehot = false;
  /// heads mixed before positions are counted
  bool talking_heads = false;
  /// temperature of soft_onehot
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
