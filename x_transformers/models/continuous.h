// Models over continuous values in place of tokens: ContinuousTransformerWrapper.
#pragma once

#include <torch/nn/module.h>

#include <memory>
#include <optional>
#include <string>

#include "x_transformers/models/continuous_net.h"
#include "x_transformers/models/continuous_options.h"
#include "x_transformers/models/embedded_sequence.h"
#include "x_transformers/nn/callable_module.h"
#include "x_transformers/nn/embeddings.h"
#include "x_transformers/nn/linear.h"
#include "x_transformers/nn/norms.h"

namespace x_transformers {

/// A transformer over vectors of features in place of tokens (arXiv:2112.05329 trains one on
/// motions).
class ContinuousTransformerWrapperImpl : public ContinuousNet, public MeaningReader {
 public:
  /// Throws InputError for impossible options.
  explicit ContinuousTransformerWrapperImpl(ContinuousTransformerWrapperOptions options);
  /// Throws InputError for inputs that do not fit the options.
  ContinuousOutput forward(const ContinuousInputs& inputs) override;
  /// x [b, n, dim_in] -> ContinuousOutput::out.
  at::Tensor forward(const at::Tensor& x);

  const ContinuousTransformerWrapperOptions& options() const { return options_; }
  AttentionLayers& attn_layers() { return attn_layers_; }
  const AttentionLayers& attn_layers() const { return attn_layers_; }
  std::optional<int64_t> dim_in() const override;
  std::optional<int64_t> dim_out() const override;
  bool is_probabilistic() const override { return options_.probabilistic; }
  bool pools() const override { return options_.average_pool_embed; }
  int64_t max_seq_len() const override { return options_.max_seq_len.value_or(0); }
  std::optional<TokenLimit> embedded_positions() const override;
  bool is_causal() const override { return attn_layers_->options().is_causal(); }
  int64_t memory_tokens() const override { return options_.num_memory_tokens.value_or(0); }
  std::optional<int64_t> kept_mems() const override {
    return kept_memory(options_.max_mem_len, options_.compat);
  }
  /// Why the model cannot be decoded with a cache; empty: it can.
  Text cache_unsupported() const;
  Text cache_unsupported(const ContinuousInputs& inputs) const override;
  Text static_cache_unsupported() const override {
    return respelled(attn_layers_->static_cache_unsupported(), below("attn_layers"));
  }
  TransformerCache make_cache(int64_t capacity = 0) const override;
  /// Whether what comes out for a token depends on that token alone, after the stack.
  bool head_is_per_token() const { return !given_out_ || given_out_.is_per_token; }
  std::vector<MeaningRead> meanings_read() const override;
  std::shared_ptr<torch::nn::Module> clone(
      const std::optional<torch::Device>& device = std::nullopt) const override;

 private:
  void build_projections(int64_t dim);
  void check(const ContinuousInputs& inputs) const;
  at::Tensor embed(const ContinuousInputs& inputs);
  void project_out(const at::Tensor& pooled, ContinuousOutput& output);

  ContinuousTransformerWrapperOptions options_;
  CallableModule given_in_, given_out_;  // project_in and project_out from the options
  Linear project_in_{nullptr}, project_out_{nullptr};
  std::shared_ptr<PositionalEmbedding> pos_emb_;
  std::shared_ptr<LayerNorm> post_emb_norm_;
  at::Tensor memory_tokens_;
  AttentionLayers attn_layers_{nullptr};
};
TORCH_MODULE(ContinuousTransformerWrapper);

}  // namespace x_transformers
