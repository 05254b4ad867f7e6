// Options of FLASH-pytorch's modules (arXiv:2202.10447), in Python's names and defaults.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "x_transformers/core/compat.h"
#include "x_transformers/core/options.h"

namespace x_transformers {

struct OffsetScaleOptions {
  /// features
  int64_t dim = 0;
  /// outputs, each with a scale and an offset of its own
  int64_t heads = 1;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("dim", dim, "features");
    v("heads", heads, "outputs, each with a scale and an offset of its own");
  }
};

struct FLASHScaleNormOptions {
  /// features (arXiv:1910.05895)
  int64_t dim = 0;
  /// minimum root mean square that is divided by
  double eps = 1e-5;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("dim", dim, "features", "arXiv:1910.05895");
    v("eps", eps, "minimum root mean square that is divided by");
  }
};

struct FLASHScaledSinuEmbeddingOptions {
  /// features
  int64_t dim = 0;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("dim", dim, "features");
  }
};

struct FLASHT5RelativePositionBiasOptions {
  /// factor of the bias (arXiv:1910.10683)
  double scale = 0.0;
  /// all buckets are for keys before the query
  bool causal = false;
  /// buckets of distances
  int64_t num_buckets = 32;
  /// distance from which all share a bucket
  int64_t max_distance = 128;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("scale", scale, "factor of the bias", "arXiv:1910.10683");
    v("causal", causal, "all buckets are for keys before the query");
    v("num_buckets", num_buckets, "buckets of distances");
    v("max_distance", max_distance, "distance from which all share a bucket");
  }
};

/// rotary_embedding_torch's RotaryEmbedding.
struct FLASHRotaryEmbeddingOptions {
  /// features that are rotated, in pairs (arXiv:2104.09864)
  int64_t dim = 0;
  /// a frequency for each pair; default: those of freqs_for
  std::optional<std::vector<double>> custom_freqs = std::nullopt;
  /// lang: powers of theta; pixel: evenly spaced; constant: ones
  std::string freqs_for = "lang";
  /// base of the frequencies of lang
  double theta = 10000.0;
  /// the highest frequency of pixel is half of it, times pi
  double max_freq = 10.0;
  /// pairs of constant
  int64_t num_freqs = 1;
  /// the frequencies are trained
  bool learned_freq = false;
  /// positions are divided by it (arXiv:2306.15595)
  double interpolate_factor = 1.0;
  /// NTK-aware rescaling of theta
  double theta_rescale_factor = 1.0;

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("dim", dim, "features that are rotated, in pairs", "arXiv:2104.09864");
    v("custom_freqs", custom_freqs, "a frequency for each pair; default: those of freqs_for");
    v("freqs_for", freqs_for, "lang: powers of theta; pixel: evenly spaced; constant: ones");
    v("theta", theta, "base of the frequencies of lang");
    v("max_freq", max_freq, "the highest frequency of pixel is half of it, times pi");
    v("num_freqs", num_freqs, "pairs of constant");
    v("learned_freq", learned_freq, "the frequencies are trained");
    v("interpolate_factor", interpolate_factor, "positions are divided by it", "arXiv:2306.15595");
    v("theta_rescale_factor", theta_rescale_factor, "NTK-aware rescaling of theta");
  }
};

/// The gated attention unit.
struct GAUOptions {
  /// features (arXiv:2202.10447)
  int64_t dim = 0;
  /// features of queries and keys
  int64_t query_key_dim = 128;
  /// features of values and gates, in dims
  double expansion_factor = 2.0;
  /// the input is added to the output
  bool add_residual = true;
  /// tokens see themselves and those before
  bool causal = false;
  /// of attention weights and of the output
  double dropout = 0.0;
  /// the laplacian in place of the squared relu (arXiv:2209.10655)
  bool laplace_attn_fn = false;
  /// read nowhere, as in Python: the T5 bias is always there
  bool rel_pos_bias = false;
  /// LayerNorm, or ScaleNorm for FLASH's
  std::string norm_klass = "LayerNorm";
  /// length: scores are divided by the tokens of the whole sequence, so that each new one changes
  /// all; position: by the keys that the query sees, which a cache can continue
  std::string normalise = "length";
  Compat compat = {};  ///< of the whole model; no option of the class

  int64_t hidden_dim() const {
    return static_cast<int64_t>(expansion_factor * static_cast<double>(dim));
  }

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("dim", dim, "features", "arXiv:2202.10447");
    v("query_key_dim", query_key_dim, "features of queries and keys");
    v("expansion_factor", expansion_factor, "features of values and gates, in dims");
    v("add_residual", add_residual, "the input is added to the output");
    v("causal", causal, "tokens see themselves and those before");
    v.free("dropout", dropout, "of attention weights and of the output");
    v("laplace_attn_fn", laplace_attn_fn, "the laplacian in place of the squared relu",
      "arXiv:2209.10655");
    v("rel_pos_bias", rel_pos_bias, "read nowhere, as in Python: the T5 bias is always there");
    v("norm_klass", norm_klass, "LayerNorm, or ScaleNorm for FLASH's");
    v("normalise", normalise,
      "length: scores are divided by the tokens of the whole sequence, so that each new one "
      "changes all; position: by the keys that the query sees, which a cache can continue");
  }
};

/// Gated attention within groups of tokens, and linear attention between them.
struct FLASHOptions {
  /// features (arXiv:2202.10447)
  int64_t dim = 0;
  /// tokens of a group; the last one may have fewer
  int64_t group_size = 256;
  /// features of queries and keys
  int64_t query_key_dim = 128;
  /// features of values and gates, in dims
  double expansion_factor = 2.0;
  /// tokens see themselves and those before
  bool causal = false;
  /// of attention weights within groups
  double dropout = 0.0;
  /// a FLASHRotaryEmbedding (arXiv:2104.09864)
  std::optional<ModuleSpec> rotary_pos_emb = std::nullopt;
  /// LayerNorm, or ScaleNorm for FLASH's
  std::string norm_klass = "LayerNorm";
  /// half of the features come from the token before
  bool shift_tokens = false;
  /// the laplacian in place of the squared relu (arXiv:2209.10655)
  bool laplace_attn_fn = false;
  /// not causal: linear attention sees all groups; else each group sees itself alone
  bool reduce_group_non_causal_attn = true;
  Compat compat = {};  ///< of the whole model; no option of the class

  int64_t hidden_dim() const {
    return static_cast<int64_t>(static_cast<double>(dim) * expansion_factor);
  }

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("dim", dim, "features", "arXiv:2202.10447");
    v("group_size", group_size, "tokens of a group; the last one may have fewer");
    v("query_key_dim", query_key_dim, "features of queries and keys");
    v("expansion_factor", expansion_factor, "features of values and gates, in dims");
    v("causal", causal, "tokens see themselves and those before");
    v.free("dropout", dropout, "of attention weights within groups");
    v("rotary_pos_emb", rotary_pos_emb, "a FLASHRotaryEmbedding", "arXiv:2104.09864");
    v("norm_klass", norm_klass, "LayerNorm, or ScaleNorm for FLASH's");
    v("shift_tokens", shift_tokens, "half of the features come from the token before");
    v("laplace_attn_fn", laplace_attn_fn, "the laplacian in place of the squared relu",
      "arXiv:2209.10655");
    v("reduce_group_non_causal_attn", reduce_group_non_causal_attn,
      "not causal: linear attention sees all groups; else each group sees itself alone");
  }
};

}  // namespace x_transformers
