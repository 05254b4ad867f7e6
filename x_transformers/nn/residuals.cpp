#include "x_transformers/nn/residuals.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <torch/nn/modules/linear.h>

#include <cmath>

#include "x_transformers/core/error.h"
#include "x_transformers/core/format.h"
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

HyperConnection::HyperConnection(const HyperConnectionOptions& o) : views_(o.num_input_views) {
  require_size(o.dim, "dim");
  require_size(o.num_residual_streams, "num_residual_streams");
  require_size(o.num_input_views, "num_input_views");
  require_at_least(o.layer_index, 0, "layer_index");
  const auto dim = o.dim, streams = o.num_residual_streams;
  constexpr double kDynamicScale = 1e-2;
  auto norm = register_module("norm", make_scope());
  auto& w = weights_;
  w.gain = norm->register_parameter("weight", at::ones({dim}));
  w.static_beta = register_parameter("static_beta", at::ones({streams}));
  auto alpha_input = at::zeros({streams, views_});
  alpha_input.select(0, o.layer_index % streams).fill_(1.0);
  w.static_alpha = register_parameter("static_alpha", at::cat({alpha_input, at::eye(streams)}, 1));
  w.alpha_fn = register_parameter("dynamic_alpha_fn", at::zeros({dim, streams + views_}));
  w.alpha_scale = register_parameter("dynamic_alpha_scale", at::scalar_tensor(kDynamicScale));
  w.beta_fn = register_parameter("dynamic_beta_fn", at::zeros({dim}));
  w.beta_scale = register_parameter("dynamic_beta_scale", at::scalar_tensor(kDynamicScale));
}

HyperConnection::Prepared HyperConnection::prepare(const at::Tensor& residuals) {
  const auto width = hyper_width(residuals, weights_, views_);
  return {views_ == 1 ? width.input.squeeze(0) : width.input, width.sum, width.beta};
}

at::Tensor HyperConnection::forward(const at::Tensor& out, const Prepared& prepared) {
  const auto &residual = prepared.residual, &beta = prepared.beta;
  if (residual.dim() == 3) return hyper_depth(out, residual, beta);
  // A caller's own, [b, n, streams, dim]; prepare()'s are alike in all streams.
  const auto joined = out.unsqueeze(2) * beta.unsqueeze(-1) + residual;
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

MixedLayers DynamicLIMe::mix(const at::Tensor& x, const std::vector<at::Tensor>& hiddens) {
  expect(static_cast<int64_t>(hiddens.size()) == options_.num_layers, at("hiddens"), hiddens.size(),
         "{}", how_many(options_.num_layers, "layer"));
  const auto logits = linear(norm_ ? norm_->forward(x) : x, weight_, bias_)
                          .unflatten(-1, {options_.num_views, options_.num_layers});
  auto result = mix_layers(hiddens, logits, options_.use_softmax);
  if (options_.num_views == 1) result.mixed = result.mixed.squeeze(0);
  return result;
}

at::Tensor DynamicLIMe::forward(const at::Tensor& x, const std::vector<at::Tensor>& hiddens) {
  return mix(x, hiddens).mixed;
}

}  // namespace x_transformers
