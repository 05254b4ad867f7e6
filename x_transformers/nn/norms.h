// Normalisation layers. Gains may be stored as an offset from one (`unit_offset`), so that weight
// decay pulls to identity.
#pragma once

#include <torch/nn/module.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "x_transformers/core/cost_part.h"
#include "x_transformers/nn/norm_options.h"
#include "x_transformers/ops/norm.h"

namespace x_transformers {

/// A normalisation of the last dimension, [..., dim] -> [..., dim].
class Norm : public torch::nn::Module, public CostPart {
 public:
  /// `condition` [b, 1 or n, dim_condition] is for the adaptive norms; the others ignore it.
  virtual at::Tensor forward(const at::Tensor& x, const at::Tensor& condition = {}) = 0;
  const char* cost_part() const override { return "norms"; }
  /// The same norm for what normalises on its way; none where it is no such norm.
  virtual std::optional<RowNorm> row_norm() const { return std::nullopt; }
};

/// Layer normalisation without bias (arXiv:1607.06450).
class LayerNorm : public Norm {
 public:
  explicit LayerNorm(const NormModuleOptions& options);
  explicit LayerNorm(int64_t dim) : LayerNorm(NormModuleOptions{dim}) {}
  at::Tensor forward(const at::Tensor& x, const at::Tensor& condition = {}) override;
  std::optional<RowNorm> row_norm() const override;

 private:
  at::Tensor gamma_;
  double offset_;
};

/// Layer normalisation with a gain computed from a condition (DiT, arXiv:2212.09748).
class AdaptiveLayerNorm : public Norm {
 public:
  explicit AdaptiveLayerNorm(const AdaptiveNormOptions& options);
  at::Tensor forward(const at::Tensor& x, const at::Tensor& condition) override;

 private:
  at::Tensor to_gamma_;
};

/// x / ||x|| * sqrt(dim) * g with one gain (arXiv:1910.05895), a gain for each feature (RMSNorm,
/// arXiv:1910.07467), or none (arXiv:2307.14995).
class RootMeanSquareNorm : public Norm {
 public:
  struct Options {
    int64_t gains = 0;  ///< dim for RMSNorm, 1 for ScaleNorm, 0 for SimpleRMSNorm
    bool unit_offset = false;
  };
  explicit RootMeanSquareNorm(const Options& options);
  at::Tensor forward(const at::Tensor& x, const at::Tensor& condition = {}) override;
  std::optional<RowNorm> row_norm() const override;

 private:
  at::Tensor g_;
  double offset_;
};

/// RMSNorm with a gain computed from a condition.
class AdaptiveRMSNorm : public Norm {
 public:
  explicit AdaptiveRMSNorm(const AdaptiveNormOptions& options);
  at::Tensor forward(const at::Tensor& x, const at::Tensor& condition) override;

 private:
  at::Tensor to_gamma_;
};

/// RMSNorm of each head with its own gain, stored as an offset from one: [b, heads, n, dim].
class MultiheadRMSNorm : public Norm {
 public:
  explicit MultiheadRMSNorm(const MultiheadRMSNormOptions& options);
  at::Tensor forward(const at::Tensor& x, const at::Tensor& condition = {}) override;

 private:
  at::Tensor gamma_;
};

/// tanh(alpha * x) * gamma + beta in place of a norm (arXiv:2503.10622).
class DynamicTanh : public Norm {
 public:
  explicit DynamicTanh(const DynamicTanhOptions& options);
  at::Tensor forward(const at::Tensor& x, const at::Tensor& condition = {}) override;

 private:
  at::Tensor pre_tanh_scale_, gamma_, beta_;
  double scale_offset_, gamma_offset_;
};

/// erf(alpha * x + s) * gamma + beta in place of a norm (arXiv:2512.10938).
class Derf : public Norm {
 public:
  explicit Derf(const DerfOptions& options);
  at::Tensor forward(const at::Tensor& x, const at::Tensor& condition = {}) override;

 private:
  at::Tensor alpha_, s_, gamma_, beta_;
  double offset_;
};

/// Which norm a stack uses, and with what.
struct NormChoice {
  enum class Kind {
    layer_norm,
    scale_norm,
    rms_norm,
    simple_rms_norm,
    dynamic_tanh,
    derf,
    adaptive_layer_norm,
    adaptive_rms_norm
  };
  Kind kind = Kind::layer_norm;
  bool unit_offset = true;
  double dynamic_tanh_init_alpha = 1.0;
  int64_t dim_condition = 0;
};

std::shared_ptr<Norm> make_norm(int64_t dim, const NormChoice& choice);

}  // namespace x_transformers
