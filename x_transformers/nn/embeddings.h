// Token embeddings, and positions that are added to them.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/embedding.h>

#include <cstdint>
#include <memory>
#include <optional>

#include "x_transformers/nn/embedding_options.h"

namespace x_transformers {

/// Where tokens stand: positions [n] or [b, n] if given, else 0, 1, ... from `offset`; less
/// `seq_start_pos` [b] for sequences padded at the left.
struct Positions {
  at::Tensor pos;
  at::Tensor seq_start_pos;
  int64_t offset = 0;

  at::Tensor resolve(int64_t length, const at::Device& device) const;
};

/// What embeds tokens: the `embedding_provider` of a ZetaTransformer. One's own derives from it and
/// is registered by a name for model files (nn/embedding_types.h).
class BaseEmbedding : public torch::nn::Module {
 public:
  /// tokens [b, n] int64 at `positions` -> [b, n, dim], or [n, dim] where it is the same for every
  /// sequence. What a token becomes must depend on the token and its position alone, so that tokens
  /// can be decoded one by one.
  virtual at::Tensor embed(const at::Tensor& tokens, const Positions& positions) = 0;
  /// The start that a model gives it.
  virtual void init() {}
  /// The table [tokens, dim] that tie_embedding makes logits by; undefined: there is none.
  virtual at::Tensor table() const { return {}; }
  /// Whether a token's embedding depends on its position.
  virtual bool reads_positions() const { return true; }
  /// How many positions there are; empty: any number.
  virtual std::optional<int64_t> position_count() const { return std::nullopt; }
};

/// A vector for each token: [b, n] int64 -> [b, n, dim]. With `l2norm_embed` the vectors have
/// length one (https://arxiv.org/abs/1910.06611 uses it to stabilise small-norm initialisation).
class TokenEmbeddingImpl : public BaseEmbedding {
 public:
  explicit TokenEmbeddingImpl(const TokenEmbeddingOptions& options);
  at::Tensor forward(const at::Tensor& tokens);
  at::Tensor embed(const at::Tensor& tokens, const Positions&) override { return forward(tokens); }
  /// The start that TransformerWrapper gives: Kaiming normal, or nearly zero with `l2norm_embed`.
  void init() override;
  const at::Tensor& weight() const { return emb_->weight; }
  at::Tensor table() const override { return emb_->weight; }
  bool reads_positions() const override { return false; }

 private:
  bool l2norm_embed_;
  torch::nn::Embedding emb_{nullptr};
};
TORCH_MODULE(TokenEmbedding);

/// Positions as vectors to be added to token embeddings.
class PositionalEmbedding : public BaseEmbedding {
 public:
  /// [n, dim] or [b, n, dim] for `length` tokens.
  virtual at::Tensor forward(int64_t length, const Positions& positions,
                             const at::Device& device) = 0;
  /// Of the tokens only their number counts.
  at::Tensor embed(const at::Tensor& tokens, const Positions& positions) override {
    return forward(tokens.size(1), positions, tokens.device());
  }
};

/// A learned vector for each position up to `max_seq_len`, times dim ** -0.5.
class AbsolutePositionalEmbedding : public PositionalEmbedding {
 public:
  explicit AbsolutePositionalEmbedding(const AbsolutePositionalEmbeddingOptions& options);
  at::Tensor forward(int64_t length, const Positions& positions, const at::Device& device) override;
  void init() override;
  std::optional<int64_t> position_count() const override { return max_seq_len_; }

 private:
  double scale_;
  int64_t max_seq_len_;
  bool l2norm_embed_;
  torch::nn::Embedding emb_{nullptr};
};

/// Sines and cosines with a learned scale (arXiv:2202.10447 keeps the scale small at the start).
class ScaledSinusoidalEmbedding : public PositionalEmbedding {
 public:
  explicit ScaledSinusoidalEmbedding(const ScaledSinusoidalEmbeddingOptions& options);
  at::Tensor forward(int64_t length, const Positions& positions, const at::Device& device) override;

 private:
  int64_t dim_;
  double theta_;
  at::Tensor scale_;
};

/// What a model embeds positions by.
struct PosEmbChoice {
  int64_t dim = 0;
  int64_t max_seq_len = 0;
  bool scaled_sinu_pos_emb = false;
  bool l2norm_embed = false;
};
/// Sines and cosines with `scaled_sinu_pos_emb`, else a learned vector for each position up to
/// `max_seq_len`, which must be 1 or more then (InputError).
std::shared_ptr<PositionalEmbedding> make_pos_emb(const PosEmbChoice& choice);

}  // namespace x_transformers
