// The small modules that FLASH-pytorch's GAU and FLASH are made of.
#pragma once

#include <torch/nn/module.h>

#include <memory>
#include <string>

#include "x_transformers/nn/flash_options.h"
#include "x_transformers/nn/linear.h"
#include "x_transformers/nn/norms.h"
#include "x_transformers/nn/positions/position_bias.h"
#include "x_transformers/ops/rotary.h"

namespace x_transformers {

/// x * gamma + beta for several pairs of gamma and beta: queries and keys from one projection.
class OffsetScale : public torch::nn::Module {
 public:
  explicit OffsetScale(const OffsetScaleOptions& options);
  /// [..., dim] -> [heads, ..., dim].
  at::Tensor forward(const at::Tensor& x);

 private:
  at::Tensor gamma_, beta_;  // [heads, dim]
};

/// x / max(|x| / sqrt(dim), eps) * g with one gain (arXiv:1910.05895).
class FLASHScaleNorm : public Norm {
 public:
  explicit FLASHScaleNorm(const FLASHScaleNormOptions& options);
  at::Tensor forward(const at::Tensor& x, const at::Tensor& condition = {}) override;

 private:
  double eps_;
  at::Tensor g_;
};

/// torch.nn's layer normalisation, with a bias (arXiv:1607.06450).
class BiasedLayerNorm : public Norm {
 public:
  explicit BiasedLayerNorm(const DimOptions& options);
  at::Tensor forward(const at::Tensor& x, const at::Tensor& condition = {}) override;

 private:
  at::Tensor weight_, bias_;
};

/// What the option `norm_klass` names: "LayerNorm", torch.nn's, or "ScaleNorm", FLASH's. InputError
/// for another name.
std::shared_ptr<Norm> make_flash_norm(const std::string& norm_klass, int64_t dim);

/// Throws InputError unless values of `expansion_factor` * dim features can be built.
void require_gated_width(double expansion_factor, int64_t dim);

/// Sines, then cosines, of positions times the buffer inv_freq, times a learned scale.
class FLASHScaledSinuEmbedding : public torch::nn::Module {
 public:
  explicit FLASHScaledSinuEmbedding(const FLASHScaledSinuEmbeddingOptions& options);
  /// [n, dim] (an odd dim gets one more) for the n tokens from position `first` on.
  at::Tensor forward(int64_t n, int64_t first = 0);

 private:
  at::Tensor scale_, inv_freq_;
};

/// T5's bias of one head.
class FLASHT5RelativePositionBias : public RelativePositionBias {
 public:
  explicit FLASHT5RelativePositionBias(const FLASHT5RelativePositionBiasOptions& options);
  using RelativePositionBias::forward;
  /// [n, keys] for queries at positions `first` to first + n - 1 and keys at 0 to keys - 1.
  at::Tensor forward(int64_t first, int64_t n, int64_t keys);
  /// [2 n - 1] for keys n - 1 tokens before the query to n - 1 after it.
  at::Tensor by_distance(int64_t n);
};

/// Angles of queries and keys by position. The frequencies are trained with learned_freq alone.
class FLASHRotaryEmbedding : public torch::nn::Module {
 public:
  explicit FLASHRotaryEmbedding(const FLASHRotaryEmbeddingOptions& options);
  /// For the n tokens from position `first` on.
  RotaryTable table(int64_t n, int64_t first = 0) const;
  /// The angles at positions [n], one for each feature: [n, 2 * frequencies].
  at::Tensor forward(const at::Tensor& positions) const;
  /// Features that are rotated.
  int64_t rotated() const { return 2 * freqs_.numel(); }

 private:
  double interpolate_factor_;
  at::Tensor freqs_;
};

/// The distribution function of the normal of mean sqrt(1/2) and variance 1/(4 pi), which the
/// squared relu is close to (arXiv:2209.10655).
class LaplacianAttnFn : public torch::nn::Module {
 public:
  at::Tensor forward(const at::Tensor& x);
};

/// silu(linear(x)), under the names of Python's Sequential.
class SiluLinear : public torch::nn::Module {
 public:
  SiluLinear(int64_t dim_in, int64_t dim_out);
  at::Tensor forward(const at::Tensor& x);
  /// The `count` features from `first` on.
  at::Tensor forward(const at::Tensor& x, int64_t first, int64_t count);

 private:
  Linear linear_{nullptr};
};

}  // namespace x_transformers
