// Options of AttentionPool.
#pragma once

#include <cstdint>
#include <optional>

#include "x_transformers/core/compat.h"
#include "x_transformers/core/options.h"
#include "x_transformers/nn/attention_options.h"

namespace x_transformers {

struct AttentionPoolOptions {
  /// features of the pooled tokens
  int64_t dim = 0;
  /// pooled tokens (arXiv:1810.00825)
  int64_t num_pooled_tokens = 1;
  /// features of the sequence; default: dim
  std::optional<int64_t> dim_context = std::nullopt;
  /// add the queries to the result
  bool add_residual = false;
  /// blocks
  int64_t depth = 1;
  /// attention heads
  int64_t heads = 8;
  /// features of each head
  int64_t dim_head = kDefaultDimHead;
  /// whole blocks with feed-forward; default: with depth > 1
  std::optional<bool> use_transformer_blocks = std::nullopt;
  /// leave out the token dimension of a single pooled token
  std::optional<bool> squeeze_output = std::nullopt;
  /// further options of the attention (without effect in whole blocks, as in Python)
  AttentionOptions attn_kwargs = {};
  Compat compat = {};  ///< of the whole model; no option of the class

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("dim", dim, "features of the pooled tokens");
    v("num_pooled_tokens", num_pooled_tokens, "pooled tokens", "arXiv:1810.00825");
    v("dim_context", dim_context, "features of the sequence; default: dim");
    v("add_residual", add_residual, "add the queries to the result");
    v.size("depth", depth, "blocks");
    v.size("heads", heads, "attention heads");
    v("dim_head", dim_head, "features of each head");
    v("use_transformer_blocks", use_transformer_blocks,
      "whole blocks with feed-forward; default: with depth > 1");
    v("squeeze_output", squeeze_output, "leave out the token dimension of a single pooled token");
    v("attn_kwargs", attn_kwargs,
      "further options of the attention (without effect in whole blocks, as in Python)");
  }
};

}  // namespace x_transformers
