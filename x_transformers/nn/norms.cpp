#include "x_transformers/nn/norms.h"

#include <ATen/ATen.h>

#include <cmath>

#include "x_transformers/core/rules.h"
#include "x_transformers/ops/linear.h"
#include "x_transformers/ops/norm.h"

namespace x_transformers {

namespace {
/// A gain of one, stored less its offset.
at::Tensor unit_gain(at::IntArrayRef shape, bool unit_offset) {
  return at::full(shape, unit_offset ? 0.0 : 1.0);
}

int64_t sized(int64_t dim) {
  require_size(dim, "dim");
  return dim;
}

/// [dim, dim_condition], zero.
at::Tensor condition_weight(const AdaptiveNormOptions& options) {
  require_size(options.dim_condition, "dim_condition");
  return at::zeros({sized(options.dim), options.dim_condition.value_or(options.dim)});
}

at::Tensor with_sequence(const at::Tensor& condition) {
  return condition.dim() == 2 ? condition.unsqueeze(1) : condition;
}
}  // namespace

LayerNorm::LayerNorm(const NormModuleOptions& o)
    : gamma_(register_parameter("gamma", unit_gain({sized(o.dim)}, o.unit_offset))),
      offset_(o.unit_offset ? 1.0 : 0.0) {}

at::Tensor LayerNorm::forward(const at::Tensor& x, const at::Tensor&) {
  return layer_norm(x, gamma_, offset_);
}

std::optional<RowNorm> LayerNorm::row_norm() const {
  return RowNorm{RowNorm::Kind::layer, gamma_, offset_};
}

AdaptiveLayerNorm::AdaptiveLayerNorm(const AdaptiveNormOptions& options)
    : to_gamma_(register_module("to_gamma", std::make_shared<torch::nn::Module>())
                    ->register_parameter("weight", condition_weight(options))) {}

at::Tensor AdaptiveLayerNorm::forward(const at::Tensor& x, const at::Tensor& condition) {
  return layer_norm(x, {}, 0.0) * (linear(with_sequence(condition), to_gamma_, at::Tensor()) + 1.0);
}

RootMeanSquareNorm::RootMeanSquareNorm(const Options& o) : offset_(o.unit_offset ? 1.0 : 0.0) {
  if (o.gains > 0) g_ = register_parameter("g", unit_gain({o.gains}, o.unit_offset));
}

at::Tensor RootMeanSquareNorm::forward(const at::Tensor& x, const at::Tensor&) {
  return rms_norm(x, g_, offset_);
}

std::optional<RowNorm> RootMeanSquareNorm::row_norm() const {
  return RowNorm{RowNorm::Kind::rms, g_, offset_};
}

AdaptiveRMSNorm::AdaptiveRMSNorm(const AdaptiveNormOptions& options)
    : to_gamma_(register_module("to_gamma", std::make_shared<torch::nn::Module>())
                    ->register_parameter("weight", condition_weight(options))) {}

at::Tensor AdaptiveRMSNorm::forward(const at::Tensor& x, const at::Tensor& condition) {
  return rms_norm(x, {}, 0.0) * (linear(with_sequence(condition), to_gamma_, at::Tensor()) + 1.0);
}

MultiheadRMSNorm::MultiheadRMSNorm(const MultiheadRMSNormOptions& o) {
  require_size(o.dim, "dim");
  require_size(o.heads, "heads");
  gamma_ = register_parameter("gamma", at::zeros({o.heads, 1, o.dim}));
}

at::Tensor MultiheadRMSNorm::forward(const at::Tensor& x, const at::Tensor&) {
  return rms_norm(x, {}, 0.0) * (gamma_ + 1.0);
}

DynamicTanh::DynamicTanh(const DynamicTanhOptions& o)
    : pre_tanh_scale_(register_parameter("pre_tanh_scale",
                                         at::scalar_tensor(o.unit_offset ? 0.0 : o.init_alpha))),
      gamma_(register_parameter("gamma", unit_gain({sized(o.dim)}, o.unit_offset))),
      beta_(register_parameter("beta", at::zeros({o.dim}))),
      scale_offset_(o.unit_offset ? o.init_alpha : 0.0),
      gamma_offset_(o.unit_offset ? 1.0 : 0.0) {}

at::Tensor DynamicTanh::forward(const at::Tensor& x, const at::Tensor&) {
  return (x * (pre_tanh_scale_ + scale_offset_)).tanh() * (gamma_ + gamma_offset_) + beta_;
}

Derf::Derf(const DerfOptions& o)
    : alpha_(register_parameter("alpha",
                                at::scalar_tensor(o.init_alpha - (o.unit_offset ? 1.0 : 0.0)))),
      s_(register_parameter("s", at::scalar_tensor(o.init_bias))),
      gamma_(register_parameter("gamma", unit_gain({sized(o.dim)}, o.unit_offset))),
      beta_(register_parameter("beta", at::zeros({o.dim}))),
      offset_(o.unit_offset ? 1.0 : 0.0) {}

at::Tensor Derf::forward(const at::Tensor& x, const at::Tensor&) {
  return at::erf(x * (alpha_ + offset_) + s_) * (gamma_ + offset_) + beta_;
}

std::shared_ptr<Norm> make_norm(int64_t dim, const NormChoice& choice) {
  using Kind = NormChoice::Kind;
  switch (choice.kind) {
    case Kind::scale_norm:
      return std::make_shared<RootMeanSquareNorm>(
          RootMeanSquareNorm::Options{1, choice.unit_offset});
    case Kind::rms_norm:
      return std::make_shared<RootMeanSquareNorm>(
          RootMeanSquareNorm::Options{dim, choice.unit_offset});
    case Kind::simple_rms_norm:
      return std::make_shared<RootMeanSquareNorm>(RootMeanSquareNorm::Options{});
    case Kind::dynamic_tanh:
      return std::make_shared<DynamicTanh>(
          DynamicTanhOptions{.dim = dim,
                             .init_alpha = choice.dynamic_tanh_init_alpha,
                             .unit_offset = choice.unit_offset});
    case Kind::derf:
      return std::make_shared<Derf>(DerfOptions{.dim = dim, .unit_offset = choice.unit_offset});
    case Kind::adaptive_layer_norm:
      return std::make_shared<AdaptiveLayerNorm>(AdaptiveNormOptions{dim, choice.dim_condition});
    case Kind::adaptive_rms_norm:
      return std::make_shared<AdaptiveRMSNorm>(AdaptiveNormOptions{dim, choice.dim_condition});
    case Kind::layer_norm:
      break;
  }
  return std::make_shared<LayerNorm>(NormModuleOptions{dim, choice.unit_offset});
}

}  // namespace x_transformers
