// FLASHTransformer: the token model of FLASH-pytorch.
#pragma once

#include <torch/nn/modules/embedding.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "x_transformers/core/capture_check.h"
#include "x_transformers/core/recompute.h"
#include "x_transformers/models/flash_transformer_options.h"
#include "x_transformers/models/token_inputs.h"
#include "x_transformers/models/token_model.h"
#include "x_transformers/nn/block.h"
#include "x_transformers/nn/flash_parts.h"
#include "x_transformers/nn/layer_visits.h"
#include "x_transformers/nn/linear.h"

namespace x_transformers {

/// Token embeddings, scaled sinusoids, layers of FLASH that share their rotation, a norm and a
/// linear head. Decoding keeps a state whose size does not grow with the text.
class FLASHTransformerImpl : public TokenModel,
                             public CaptureCheck,
                             public RecomputedStack,
                             public VisitedStack {
 public:
  /// Throws InputError for options out of range.
  explicit FLASHTransformerImpl(FLASHTransformerOptions options);
  /// Reads x [b, n], mask [b or 1, n] and cache of its inputs, and throws InputError where others
  /// are given.
  TransformerOutput forward(const TransformerInputs& inputs) override;
  /// Tokens [b, n] int64 to logits [b, n, num_tokens].
  at::Tensor forward(const at::Tensor& tokens, const at::Tensor& mask = {});
  /// Embeddings [b, n, dim] of the last layer to logits [b, n, num_tokens].
  at::Tensor head(const at::Tensor& embeddings) override;
  std::vector<std::shared_ptr<torch::nn::Module>> output_layers() const override {
    return {to_logits_.ptr()};
  }

  const FLASHTransformerOptions& options() const { return options_; }
  TokenModelTraits traits() const override;
  std::optional<TokenLimit> embedded_tokens() const override;
  std::optional<TokenLimit> predicted_tokens() const override { return embedded_tokens(); }
  std::optional<TokenLimit> embedded_positions() const override { return std::nullopt; }
  void require_next_token_logits() const override {}
  void require_language_model() const override {}
  bool hides_last_token() const override { return cache_unsupported().empty(); }
  std::unique_ptr<DecodingSession> start_session(SessionOptions options) override;
  /// Why the model cannot be decoded with a state; empty: it can.
  Text cache_unsupported() const;
  TransformerCache make_cache(int64_t capacity = 0) const;
  Text capture_unsupported() const override;
  /// Of layers. Calls with a cache keep all.
  void set_recomputed_blocks(int64_t blocks) override { recomputed_layers_ = blocks; }
  std::shared_ptr<torch::nn::Module> clone(
      const std::optional<torch::Device>& device = std::nullopt) const override;

 private:
  void check(const TransformerInputs& inputs) const;
  void build_layers();
  std::shared_ptr<Block> make_layer(const std::shared_ptr<FLASHRotaryEmbedding>& rotary) const;

  /// `x` through layers `first` to `end` - 1; keeps what goes into each in `hiddens`, where given.
  at::Tensor run_layers(size_t first, size_t end, at::Tensor x, const TransformerInputs& inputs,
                        std::vector<at::Tensor>* hiddens);
  void show_ending(const at::Tensor& x) const;

  FLASHTransformerOptions options_;
  torch::nn::Embedding token_emb_{nullptr};
  std::shared_ptr<FLASHScaledSinuEmbedding> abs_pos_emb_;
  std::vector<std::shared_ptr<Block>> layers_;
  std::shared_ptr<Norm> final_norm_;
  Linear to_logits_{nullptr};
  int64_t recomputed_layers_ = 0;
};
TORCH_MODULE(FLASHTransformer);

}  // namespace x_transformers
