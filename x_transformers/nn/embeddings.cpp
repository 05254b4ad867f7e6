#include "x_transformers/nn/embeddings.h"

#include <ATen/ATen.h>
#include <torch/nn/init.h>

#include <cmath>

#include "x_transformers/core/error.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/ops/norm.h"

namespace x_transformers {

namespace {
constexpr double kTinyNorm = 1e-5;
}

TokenEmbeddingImpl::TokenEmbeddingImpl(const TokenEmbeddingOptions& o)
    : l2norm_embed_(o.l2norm_embed) {
  require_size(o.dim, "dim");
  require_size(o.num_tokens, "num_tokens");
  emb_ = register_module("emb", torch::nn::Embedding(o.num_tokens, o.dim));
}

at::Tensor TokenEmbeddingImpl::forward(const at::Tensor& tokens) {
  const auto embedded = emb_->forward(tokens.to(at::kLong));
  return l2norm_embed_ ? l2norm(embedded) : embedded;
}

void TokenEmbeddingImpl::init() {
  torch::NoGradGuard no_grad;
  if (l2norm_embed_) {
    emb_->weight.normal_(0.0, kTinyNorm);
  } else {
    torch::nn::init::kaiming_normal_(emb_->weight);
  }
}

at::Tensor Positions::resolve(int64_t length, const at::Device& device) const {
  auto resolved = pos;
  if (!resolved.defined()) {
    resolved =
        at::arange(offset, offset + length, at::TensorOptions().dtype(at::kLong).device(device));
  }
  return seq_start_pos.defined() ? resolved - seq_start_pos.unsqueeze(-1) : resolved;
}

AbsolutePositionalEmbedding::AbsolutePositionalEmbedding(
    const AbsolutePositionalEmbeddingOptions& o)
    : scale_(o.l2norm_embed ? 1.0 : 1.0 / std::sqrt(static_cast<double>(o.dim))),
      max_seq_len_(o.max_seq_len),
      l2norm_embed_(o.l2norm_embed) {
  require_size(o.dim, "dim");
  require_size(o.max_seq_len, "max_seq_len");
  emb_ = register_module("emb", torch::nn::Embedding(o.max_seq_len, o.dim));
}

at::Tensor AbsolutePositionalEmbedding::forward(int64_t length, const Positions& positions,
                                                const at::Device& device) {
  require(length + (positions.pos.defined() ? 0 : positions.offset) <= max_seq_len_, About{},
          "sequence of {} tokens: the learned positions end at {} = {}", length + positions.offset,
          option("max_seq_len"), max_seq_len_);
  auto pos = positions.resolve(length, device);
  if (positions.seq_start_pos.defined()) pos = pos.clamp_min(0);
  const auto embedded = emb_->forward(pos) * scale_;
  return l2norm_embed_ ? l2norm(embedded) : embedded;
}

void AbsolutePositionalEmbedding::init() {
  torch::NoGradGuard no_grad;
  if (l2norm_embed_) emb_->weight.normal_(0.0, kTinyNorm);
}

ScaledSinusoidalEmbedding::ScaledSinusoidalEmbedding(const ScaledSinusoidalEmbeddingOptions& o)
    : dim_(o.dim), theta_(o.theta) {
  const auto dim = o.dim;
  require_size(dim, "dim");
  scale_ = register_parameter("scale", at::full({1}, 1.0 / std::sqrt(static_cast<double>(dim))));
  expect(dim % 2 == 0, at("scaled_sinu_pos_emb"), dim, "an even embedding dimension");
}

at::Tensor ScaledSinusoidalEmbedding::forward(int64_t length, const Positions& positions,
                                              const at::Device& device) {
  const auto options = at::TensorOptions().dtype(at::kFloat).device(device);
  const auto half = dim_ / 2;
  const auto inv_freq = at::pow(theta_, at::arange(half, options) / -static_cast<double>(half));
  const auto angles = positions.resolve(length, device).to(at::kFloat).unsqueeze(-1) * inv_freq;
  return (at::cat({angles.sin(), angles.cos()}, -1) * scale_).to(scale_.scalar_type());
}

std::shared_ptr<PositionalEmbedding> make_pos_emb(const PosEmbChoice& o) {
  if (o.scaled_sinu_pos_emb)
    return std::make_shared<ScaledSinusoidalEmbedding>(ScaledSinusoidalEmbeddingOptions{o.dim});
  require_size(o.max_seq_len, "max_seq_len");  // elsewhere it sizes nothing
  return std::make_shared<AbsolutePositionalEmbedding>(
      AbsolutePositionalEmbeddingOptions{o.dim, o.max_seq_len, o.l2norm_embed});
}

}  // namespace x_transformers
