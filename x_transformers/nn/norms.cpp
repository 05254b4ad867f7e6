#include "x_transformers/nn/norms.h"

#include <ATen/ATen.h>

#include <cmath>

#include "x_transformers/ops/linear.h"
#include "x_transformers/ops/norm.h"

namespace x_transformers {

namespace {
/// A gain of one, stored less its offset.
at::Tensor unit_gain(at::IntArrayRef shape, bool unit_offset) {
  return at::full(shape, unit_offset ? 0.0 : 1.0);
}

at::Tensor with_sequence(const at::Tensor& condition) {
  return condition.dim() == 2 ? condition.unsqueeze(1) : condition;
}
}  // namespace

LayerNorm::LayerNorm(int64_t dim, bool unit_offset)
    : gamma_(register_parameter("gamma", unit_gain({dim}, unit_offset))),
      offset_(unit_offset ? 1.0 : 0.0) {}

at::Tensor LayerNorm::forward(const at::Tensor& x, const at::Tensor&) {
  return layer_norm(x, gamma_, offset_);
}

AdaptiveLayerNorm::AdaptiveLayerNorm(int64_t dim, int64_t dim_condition) {
  auto scope = register_module("to_gamma", std::make_shared<torch::nn::Module>());
  to_gamma_ = scope->register_parameter("weight", at::zeros({dim, dim_condition}));
}

at::Tensor AdaptiveLayerNorm::forward(const at::Tensor& x, const at::Tensor& condition) {
  return layer_norm(x, {}, 0.0) * (linear(with_sequence(condition), to_gamma_, at::Tensor()) + 1.0);
}

RootMeanSquareNorm::RootMeanSquareNorm(int64_t gains, bool unit_offset)
    : offset_(unit_offset ? 1.0 : 0.0) {
  if (gains > 0) g_ = register_parameter("g", unit_gain({gains}, unit_offset));
}

at::Tensor RootMeanSquareNorm::forward(const at::Tensor& x, const at::Tensor&) {
  return rms_norm(x, g_, offset_);
}

AdaptiveRMSNorm::AdaptiveRMSNorm(int64_t dim, int64_t dim_condition) {
  auto scope = register_module("to_gamma", std::make_shared<torch::nn::Module>());
  to_gamma_ = scope->register_parameter("weight", at::zeros({dim, dim_condition}));
}

at::Tensor AdaptiveRMSNorm::forward(const at::Tensor& x, const at::Tensor& condition) {
  return rms_norm(x, {}, 0.0) * (linear(with_sequence(condition), to_gamma_, at::Tensor()) + 1.0);
}

MultiheadRMSNorm::MultiheadRMSNorm(int64_t dim, int64_t heads)
    : gamma_(register_parameter("gamma", at::zeros({heads, 1, dim}))) {}

at::Tensor MultiheadRMSNorm::forward(const at::Tensor& x, const at::Tensor&) {
  return rms_norm(x, {}, 0.0) * (gamma_ + 1.0);
}

DynamicTanh::DynamicTanh(int64_t dim, double init_alpha, bool unit_offset)
    : pre_tanh_scale_(
          register_parameter("pre_tanh_scale", at::scalar_tensor(unit_offset ? 0.0 : init_alpha))),
      gamma_(register_parameter("gamma", unit_gain({dim}, unit_offset))),
      beta_(register_parameter("beta", at::zeros({dim}))),
      scale_offset_(unit_offset ? init_alpha : 0.0),
      gamma_offset_(unit_offset ? 1.0 : 0.0) {}

at::Tensor DynamicTanh::forward(const at::Tensor& x, const at::Tensor&) {
  return (x * (pre_tanh_scale_ + scale_offset_)).tanh() * (gamma_ + gamma_offset_) + beta_;
}

Derf::Derf(int64_t dim, bool unit_offset, double init_alpha, double init_bias)
    : alpha_(
          register_parameter("alpha", at::scalar_tensor(init_alpha - (unit_offset ? 1.0 : 0.0)))),
      s_(register_parameter("s", at::scalar_tensor(init_bias))),
      gamma_(register_parameter("gamma", unit_gain({dim}, unit_offset))),
      beta_(register_parameter("beta", at::zeros({dim}))),
      offset_(unit_offset ? 1.0 : 0.0) {}

at::Tensor Derf::forward(const at::Tensor& x, const at::Tensor&) {
  return at::erf(x * (alpha_ + offset_) + s_) * (gamma_ + offset_) + beta_;
}

std::shared_ptr<Norm> make_norm(int64_t dim, const NormChoice& choice) {
  using Kind = NormChoice::Kind;
  switch (choice.kind) {
    case Kind::scale_norm:
      return std::make_shared<RootMeanSquareNorm>(1, choice.unit_offset);
    case Kind::rms_norm:
      return std::make_shared<RootMeanSquareNorm>(dim, choice.unit_offset);
    case Kind::simple_rms_norm:
      return std::make_shared<RootMeanSquareNorm>(0, false);
    case Kind::dynamic_tanh:
      return std::make_shared<DynamicTanh>(dim, choice.dynamic_tanh_init_alpha, choice.unit_offset);
    case Kind::derf:
      return std::make_shared<Derf>(dim, choice.unit_offset);
    case Kind::adaptive_layer_norm:
      return std::make_shared<AdaptiveLayerNorm>(dim, choice.dim_condition);
    case Kind::adaptive_rms_norm:
      return std::make_shared<AdaptiveRMSNorm>(dim, choice.dim_condition);
    case Kind::layer_norm:
      break;
  }
  return std::make_shared<LayerNorm>(dim, choice.unit_offset);
}

}  // namespace x_transformers
