// Options of FLASHTransformer, in Python's names and defaults.
#pragma once

#include <cstdint>
#include <string>

#include "x_transformers/core/compat.h"
#include "x_transformers/core/options.h"

namespace x_transformers {

/// Tokens in, logits out, by layers of FLASH or, an option of ours, of GAU.
struct FLASHTransformerOptions {
  /// features, an even number (arXiv:2202.10447)
  int64_t dim = 0;
  /// size of the vocabulary
  int64_t num_tokens = 0;
  /// layers
  int64_t depth = 0;
  /// tokens of a group; the last one may have fewer
  int64_t group_size = 256;
  /// features of queries and keys, of which 32 are rotated
  int64_t query_key_dim = 128;
  /// features of values and gates, in dims
  double expansion_factor = 2.0;
  /// tokens see themselves and those before
  bool causal = false;
  /// of attention weights within groups
  double attn_dropout = 0.0;
  /// scalenorm or layernorm (arXiv:1910.05895)
  std::string norm_type = "scalenorm";
  /// half of the features come from the token before
  bool shift_tokens = true;
  /// the laplacian in place of the squared relu (arXiv:2209.10655)
  bool laplace_attn_fn = false;
  /// not causal: linear attention sees all groups; else each group sees itself alone
  bool reduce_group_non_causal_attn = true;
  /// flash; or gau: gated attention units, whose work grows with the square of the length, without
  /// group_size, shift_tokens, rotation and linear attention
  std::string layer = "flash";
  /// of gau layers: length, or position, which can be decoded with a cache
  std::string normalise = "length";
  Compat compat = {};  ///< of the whole model; no option of the class

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("dim", dim, "features, an even number", "arXiv:2202.10447");
    v.required("num_tokens", num_tokens, "size of the vocabulary");
    v.required("depth", depth, "layers");
    v("group_size", group_size, "tokens of a group; the last one may have fewer");
    v("query_key_dim", query_key_dim, "features of queries and keys, of which 32 are rotated");
    v("expansion_factor", expansion_factor, "features of values and gates, in dims");
    v("causal", causal, "tokens see themselves and those before");
    v.free("attn_dropout", attn_dropout, "of attention weights within groups");
    v("norm_type", norm_type, "scalenorm or layernorm", "arXiv:1910.05895");
    v("shift_tokens", shift_tokens, "half of the features come from the token before");
    v("laplace_attn_fn", laplace_attn_fn, "the laplacian in place of the squared relu",
      "arXiv:2209.10655");
    v("reduce_group_non_causal_attn", reduce_group_non_causal_attn,
      "not causal: linear attention sees all groups; else each group sees itself alone");
    v("layer", layer,
      "flash; or gau: gated attention units, whose work grows with the square of the length, "
      "without group_size, shift_tokens, rotation and linear attention");
    v("normalise", normalise,
      "of gau layers: length, or position, which can be decoded with a cache");
  }
};

}  // namespace x_transformers
