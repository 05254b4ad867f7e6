#include "x_transformers/nn/feed_forward.h"

#include <ATen/ATen.h>
#include <ATen/ExpandUtils.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <utility>

#include "x_transformers/core/cloned.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/core/tensor_check.h"
#include "x_transformers/nn/callable_activation.h"
#include "x_transformers/nn/linear.h"
#include "x_transformers/ops/linear.h"
#include "x_transformers/ops/linear_ends.h"

namespace x_transformers {

namespace {
std::shared_ptr<ActivationModule> make_custom_activation(const FeedForwardOptions& options) {
  return within("custom_activation", [&] {
    return make_callable_activation(*options.custom_activation, options.compat);
  });
}

std::shared_ptr<ActivationModule> choose_activation(const FeedForwardOptions& options,
                                                    int64_t inner_dim) {
  if (options.custom_activation) return make_custom_activation(options);
  if (options.relu_squared) return make_activation(Activation::relu_squared);
  if (options.solu) return std::make_shared<SoLU>(inner_dim);
  return make_activation(options.swish ? Activation::silu : Activation::gelu);
}
}  // namespace

void validate(const FeedForwardOptions& options) {
  require_size(options.dim, "dim");
  require_size(options.dim_out, "dim_out");
  const auto hidden = static_cast<double>(options.dim) * options.mult;
  require(hidden >= 1, at("mult"), "{} leaves no hidden features", options.mult);
  require(hidden <= kMaxSize, at("mult"), "expected {} hidden features or fewer, got {} * {} = {}",
          kMaxSize, option("dim"), options.mult, hidden);
  require(!(options.relu_squared && options.solu), among({"relu_squared", "solu"}),
          "at most one of them");
  require_probability(options.dropout, "dropout");
  require_probability(options.sublayer_dropout, "sublayer_dropout");
  if (options.custom_activation) make_custom_activation(options);
}

Text FeedForwardImpl::cache_unsupported() const {
  if (activation_->is_per_token()) return {};
  return text("{} may look at other tokens", option("custom_activation"));
}

OptionPath FeedForwardImpl::drawn_option() const {
  if (options_.dropout > 0) return "dropout";
  if (options_.sublayer_dropout > 0) return "sublayer_dropout";
  return activation_->draws() ? OptionPath("custom_activation") : OptionPath();
}

FeedForwardImpl::FeedForwardImpl(FeedForwardOptions options) : options_(std::move(options)) {
  validate(options_);
  const auto inner_dim = static_cast<int64_t>(static_cast<double>(options_.dim) * options_.mult);
  const bool bias = !options_.no_bias;
  activation_ = choose_activation(options_, inner_dim);

  // The names are those of Python's nested Sequentials.
  auto ff = register_module("ff", make_scope());
  auto first = ff->register_module("0", make_scope());
  if (options_.glu) {
    proj_in_ = first->register_module("proj", Linear(options_.dim, inner_dim * 2));
    first->register_module("act", activation_->registered());
    if (options_.glu_mult_bias)
      glu_mult_bias_ = first->register_parameter("mult_bias", at::ones({inner_dim}));
  } else {
    proj_in_ = first->register_module(
        "0", Linear(torch::nn::LinearOptions(options_.dim, inner_dim).bias(bias)));
    first->register_module("1", activation_->registered());
  }
  if (options_.post_act_ln)
    post_act_ln_ = ff->register_module("1", std::make_shared<LayerNorm>(inner_dim));
  proj_out_ = ff->register_module(
      options_.post_act_ln ? "3" : "2",
      Linear(
          torch::nn::LinearOptions(inner_dim, options_.dim_out.value_or(options_.dim)).bias(bias)));
  if (options_.zero_init_output) zero_init(proj_out_);
}

std::vector<at::Tensor> FeedForwardImpl::muon_parameters() const {
  std::vector<at::Tensor> weights;
  apply([&](const torch::nn::Module& part) {
    if (const auto* layer = dynamic_cast<const torch::nn::LinearImpl*>(&part))
      weights.push_back(layer->weight);
  });
  return weights;
}

at::Tensor FeedForwardImpl::hidden(const at::Tensor& x) {
  const auto plain = activation_->plain();
  // Where a kernel of ours runs the activation, the bias goes with it and saves a pass.
  const bool fuse_bias = plain && proj_in_->bias.defined() && takes_bias(x);
  const auto projected =
      fuse_bias ? linear(x, proj_in_->weight, at::Tensor()) : proj_in_->forward(x);
  const auto bias = fuse_bias ? proj_in_->bias : at::Tensor();
  if (!options_.glu)
    return plain ? activate(projected, *plain, bias) : activation_->forward(projected);
  at::Tensor gated;
  if (plain) {
    gated = glu(projected, *plain, bias);
  } else {
    const auto halves = projected.chunk(2, -1);
    gated = halves[0] * activation_->forward(halves[1]);
  }
  return glu_mult_bias_.defined() ? gated * glu_mult_bias_ : gated;
}

/// Of an x that `norm`, where there is one, is yet to normalise.
at::Tensor FeedForwardImpl::hidden_of(const at::Tensor& x, const std::optional<RowNorm>& norm) {
  if (!norm) return hidden(x);
  const auto plain = activation_->plain();
  if (!plain) return hidden(normalised(x, *norm));
  const auto h = linear_with_ends(
      x, proj_in_->weight, proj_in_->bias,
      {.norm = norm, .activation = *plain, .gated = options_.glu, .weights_are_old = true});
  return glu_mult_bias_.defined() ? h * glu_mult_bias_ : h;
}

at::Tensor FeedForwardImpl::forward(const FeedForwardInputs& inputs) {
  const auto &x = inputs.x, &deep_embed = inputs.deep_embed, &residual = inputs.ends.residual;
  expect(x.is_floating_point() && x.dim() > 0 && x.size(-1) == options_.dim, at("x"), shown(x),
         "floats [..., dim = {}]", options_.dim);
  auto h = hidden_of(x, inputs.ends.norm);
  if (post_act_ln_) h = post_act_ln_->forward(h);
  if (options_.dropout > 0) h = at::dropout(h, options_.dropout, is_training());
  const bool drops = options_.sublayer_dropout > 0 && is_training();
  if (residual.defined() && !drops && !deep_embed.defined())
    return linear_with_ends(h, proj_out_->weight, proj_out_->bias,
                            {.weights_are_old = true, .residual = residual});
  auto out = proj_out_->forward(h);
  if (options_.sublayer_dropout > 0)
    out = at::dropout(out, options_.sublayer_dropout, is_training());
  if (!deep_embed.defined()) return residual.defined() ? out + residual : out;
  expect(at::are_expandable(deep_embed.sizes(), out.sizes()), at("deep_embed"),
         shown(deep_embed.sizes()), "factors of {}", shown(out.sizes()));
  out = out * deep_embed;
  return residual.defined() ? out + residual : out;
}

std::shared_ptr<torch::nn::Module> FeedForwardImpl::clone(
    const std::optional<torch::Device>& device) const {
  return cloned(*this, device, [&] { return std::make_shared<FeedForwardImpl>(options_); });
}

}  // namespace x_transformers
