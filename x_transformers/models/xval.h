// Tokens of which one stands for numbers: XValTransformerWrapper.
#pragma once

#include <torch/nn/module.h>

#include <memory>
#include <optional>
#include <string>

#include "x_transformers/models/embedded_sequence.h"
#include "x_transformers/models/xval_net.h"
#include "x_transformers/models/xval_options.h"
#include "x_transformers/nn/embeddings.h"
#include "x_transformers/nn/linear.h"

namespace x_transformers {

/// A transformer over tokens and numbers: the embedding of the numerical token is scaled by its
/// number, and a second head predicts one (xVal, arXiv:2310.02989).
class XValTransformerWrapperImpl : public XValNet, public MeaningReader {
 public:
  /// Throws InputError for impossible options.
  explicit XValTransformerWrapperImpl(XValTransformerWrapperOptions options);
  /// Throws InputError for inputs that do not fit the options.
  XValOutput forward(const XValInputs& inputs) override;

  const XValTransformerWrapperOptions& options() const { return options_; }
  AttentionLayers& attn_layers() { return attn_layers_; }
  const AttentionLayers& attn_layers() const { return attn_layers_; }
  int64_t num_tokens() const override { return options_.num_tokens; }
  int64_t numerical_token_id() const override { return options_.numerical_token_id; }
  TokenLimit predicted_tokens() const override;
  int64_t max_seq_len() const override { return options_.max_seq_len; }
  std::optional<TokenLimit> embedded_positions() const override;
  bool is_causal() const override { return attn_layers_->options().is_causal(); }
  int64_t memory_tokens() const override { return options_.num_memory_tokens.value_or(0); }
  std::optional<int64_t> kept_mems() const override {
    return kept_memory(options_.max_mem_len, options_.compat);
  }
  /// Why the model cannot be decoded with a cache; empty: it can.
  Text cache_unsupported() const {
    return respelled(attn_layers_->cache_unsupported(), below("attn_layers"));
  }
  Text cache_unsupported(const XValInputs& inputs) const override;
  Text static_cache_unsupported() const override {
    return respelled(attn_layers_->static_cache_unsupported(), below("attn_layers"));
  }
  TransformerCache make_cache(int64_t capacity = 0) const override;
  std::vector<MeaningRead> meanings_read() const override;
  std::shared_ptr<torch::nn::Module> clone(
      const std::optional<torch::Device>& device = std::nullopt) const override;

 private:
  at::Tensor tied_table() const;
  void check(const XValInputs& inputs) const;
  at::Tensor embed(const XValInputs& inputs);

  XValTransformerWrapperOptions options_;
  TokenEmbedding token_emb_{nullptr};
  std::shared_ptr<PositionalEmbedding> pos_emb_;
  at::Tensor memory_tokens_;
  AttentionLayers attn_layers_{nullptr};
  Linear to_logits_{nullptr}, to_numerical_output_{nullptr};
};
TORCH_MODULE(XValTransformerWrapper);

}  // namespace x_transformers
