#include "x_transformers/nn/residuals.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <torch/nn/modules/linear.h>

#include <cmath>

#include "x_transformers/core/error.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/nn/linear.h"
#include "x_transformers/nn/norms.h"
#include "x_transformers/ops/linear.h"

namespace x_transformers {

Residual::Residual(const ResidualOptions& o) : constant_(o.scale_residual_constant) {
  require_size(o.dim, "dim");
  if (o.scale_residual) residual_scale_ = register_parameter("residual_scale", at::ones({o.dim}));
}

at::Tensor Residual::forward(const at::Tensor& out, const Prepared& prepared) {
  auto residual = prepared.residual;
  if (residual_scale_.defined()) residual = residual * residual_scale_;
  return constant_ == 1.0 ? out + residual : at::add(out, residual, constant_);
}

GRUGating::GRUGating(const GRUGatingOptions& o) {
  require_size(o.dim, "dim");
  const auto dim = o.dim;
  auto gru = register_module("gru", make_scope());
  const double bound = 1.0 / std::sqrt(static_cast<double>(dim));
  const auto uniform = [&](at::IntArrayRef shape) {
    return at::empty(shape).uniform_(-bound, bound);
  };
  weight_ih_ = gru->register_parameter("weight_ih", uniform({3 * dim, dim}));
  weight_hh_ = gru->register_parameter("weight_hh", uniform({3 * dim, dim}));
  bias_ih_ = gru->register_parameter("bias_ih", uniform({3 * dim}));
  bias_hh_ = gru->register_parameter("bias_hh", uniform({3 * dim}));
  if (o.scale_residual) residual_scale_ = register_parameter("residual_scale", at::ones({dim}));
}

at::Tensor GRUGating::forward(const at::Tensor& out, const Prepared& prepared) {
  auto residual = prepared.residual;
  if (residual_scale_.defined()) residual = residual * residual_scale_;
  const auto gated = at::gru_cell(out.flatten(0, 1), residual.flatten(0, 1), weight_ih_, weight_hh_,
                                  bias_ih_, bias_hh_);
  return gated.view_as(out);
}

HyperConnection::HyperConnection(const HyperConnectionOptions& o)
    : streams_(o.num_residual_streams), views_(o.num_input_views) {
  require_size(o.dim, "dim");
  require_size(o.num_residual_streams, "num_residual_streams");
  require_size(o.num_input_views, "num_input_views");
  require_at_least(o.layer_index, 0, "layer_index");
  const auto dim = o.dim, layer_index = o.layer_index;
  constexpr double kDynamicScale = 1e-2;
  auto norm = register_module("norm", make_scope());
  norm_weight_ = norm->register_parameter("weight", at::ones({dim}));
  static_beta_ = register_parameter("static_beta", at::ones({streams_}));
  auto alpha_input = at::zeros({streams_, views_});
  alpha_input.select(0, layer_index % streams_).fill_(1.0);
  static_alpha_ = register_parameter("static_alpha", at::cat({alpha_input, at::eye(streams_)}, 1));
  dynamic_alpha_fn_ = register_parameter("dynamic_alpha_fn", at::zeros({dim, streams_ + views_}));
  dynamic_alpha_scale_ =
      register_parameter("dynamic_alpha_scale", at::scalar_tensor(kDynamicScale));
  dynamic_beta_fn_ = register_parameter("dynamic_beta_fn", at::zeros({dim}));
  dynamic_beta_scale_ = register_parameter("dynamic_beta_scale", at::scalar_tensor(kDynamicScale));
}

HyperConnection::Prepared HyperConnection::prepare(const at::Tensor& residuals_given) {
  const auto residuals =
      residuals_given.unflatten(0, {-1, streams_}).permute({0, 2, 1, 3});  // (b n s d)
  const auto normed = at::layer_norm(residuals, {residuals.size(-1)}, norm_weight_);

  const auto alpha = at::matmul(normed, dynamic_alpha_fn_) * dynamic_alpha_scale_ + static_alpha_;
  const auto alpha_input = alpha.narrow(-1, 0, views_).sigmoid();
  // Python's Sinkhorn normalises over an axis of size one, which makes every mixing weight 1: each
  // stream's residual is the sum of all. The weights keep their (zero) gradient through the softmax
  // over that axis.
  const auto alpha_residual =
      alpha.narrow(-1, views_, streams_).unsqueeze(-2).softmax(-2).squeeze(-2);

  const auto dynamic_beta =
      at::matmul(normed, dynamic_beta_fn_).sigmoid() * 2 * dynamic_beta_scale_;
  const auto beta = (dynamic_beta + static_beta_).sigmoid() * 2;

  const auto weights = at::cat({alpha_input, alpha_residual}, -1);
  const auto mixed = at::matmul(weights.transpose(-1, -2), residuals);  // (b n t d)
  auto input = mixed.narrow(2, 0, views_);
  input = views_ == 1 ? input.squeeze(2) : input.permute({2, 0, 1, 3});
  return {input, mixed.narrow(2, views_, streams_), beta};
}

at::Tensor HyperConnection::forward(const at::Tensor& out, const Prepared& prepared) {
  const auto joined = out.unsqueeze(2) * prepared.beta.unsqueeze(-1) + prepared.residual;
  return joined.permute({0, 2, 1, 3}).flatten(0, 1);
}

DynamicLIMe::DynamicLIMe(const DynamicLIMeOptions& options) : options_(options) {
  require_size(options.dim, "dim");
  require_size(options.num_layers, "num_layers");
  require_size(options.num_views, "num_views");
  auto scope = register_module("to_weights", make_scope());
  if (options.norm)
    norm_ = scope->register_module(
        "0", std::make_shared<RootMeanSquareNorm>(RootMeanSquareNorm::Options{options.dim}));
  auto linear = scope->register_module(options.norm ? "1" : "0",
                                       Linear(options.dim, options.num_views * options.num_layers));
  weight_ = linear->weight;
  bias_ = linear->bias;
}

at::Tensor DynamicLIMe::forward(const at::Tensor& x, const std::vector<at::Tensor>& hiddens) {
  require(static_cast<int64_t>(hiddens.size()) == options_.num_layers,
          fmt::format("hiddens: expected {} layers, got {}", options_.num_layers, hiddens.size()));
  auto weights = linear(norm_ ? norm_->forward(x) : x, weight_, bias_)
                     .unflatten(-1, {options_.num_views, options_.num_layers});
  weights = options_.use_softmax ? weights.softmax(-1) : weights.relu();
  const auto out = at::einsum("l b n d, b n v l -> v b n d", {at::stack(hiddens), weights});
  return options_.num_views > 1 ? out : out.squeeze(0);
}

}  // namespace x_transformers
