// A fixed number of tokens that attend to a sequence.
#pragma once

#include <torch/nn/module.h>

#include <optional>

#include "x_transformers/core/inputs.h"
#include "x_transformers/core/options.h"
#include "x_transformers/layers/attention_layers.h"
#include "x_transformers/nn/attention.h"

namespace x_transformers {

struct AttentionPoolOptions {
  int64_t dim = 0;
  int64_t num_pooled_tokens = 1;
  std::optional<int64_t> dim_context = std::nullopt;
  bool add_residual = false;
  int64_t depth = 1;
  int64_t heads = 8;
  int64_t dim_head = kDefaultDimHead;
  std::optional<bool> use_transformer_blocks = std::nullopt;
  std::optional<bool> squeeze_output = std::nullopt;
  AttentionOptions attn_kwargs =
      {};  ///< further options of the attention; as in Python without effect when depth > 1

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

/// What one call of AttentionPool takes.
struct AttentionPoolInputs {
  at::Tensor context;  ///< [b, n, dim_context]
  at::Tensor mask;     ///< [b, n] bool, may be undefined

  /// All but the context, by which the others are measured (core/inputs.h).
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& v) {
    v("mask", self.mask, {.kind = TensorKind::boolean, .axes = {Axis::batch, Axis::tokens}});
  }
};

/// Learned queries that pool a sequence: [b, n, dim_context] -> [b, num_pooled_tokens, dim].
class AttentionPoolImpl : public torch::nn::Module {
 public:
  explicit AttentionPoolImpl(AttentionPoolOptions options);
  at::Tensor forward(const AttentionPoolInputs& inputs);

 private:
  AttentionPoolOptions options_;
  at::Tensor queries_;
  Attention attention_{nullptr};
  AttentionLayers blocks_{nullptr};
};
TORCH_MODULE(AttentionPool);

}  // namespace x_transformers
