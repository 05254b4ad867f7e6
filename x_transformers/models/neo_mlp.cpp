#include "x_transformers/models/neo_mlp.h"

#include <ATen/ATen.h>

#include <numbers>

#include "x_transformers/core/cloned.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/core/tensor_check.h"
#include "x_transformers/layers/stack_spelling.h"
#include "x_transformers/nn/input_dtype.h"

namespace x_transformers {

RandomFourierEmbedImpl::RandomFourierEmbedImpl(const RandomFourierEmbedOptions& options) {
  require_size(options.dim, "dim");
  proj_ = register_module("proj", Linear(1, options.dim));
  for (auto& parameter : proj_->parameters()) parameter.set_requires_grad(false);
}

at::Tensor RandomFourierEmbedImpl::forward(const at::Tensor& times) {
  return (proj_->forward(times.unsqueeze(-1)) * (2 * std::numbers::pi)).cos();
}

AttentionLayersOptions NeoMLPOptions::plain_encoder() {
  AttentionLayersOptions encoder;
  encoder.kind = LayersKind::encoder;
  return encoder;
}

namespace {

AttentionLayersOptions encoder_options(const NeoMLPOptions& o) {
  auto encoder = o.encoder_kwargs.value_or(NeoMLPOptions::plain_encoder());
  if (!o.encoder_kwargs) {
    encoder.heads = 4;
    encoder.attn.dim_head = 16;
  }
  encoder.dim = o.dim_model;
  encoder.depth = o.depth;
  encoder.compat = o.compat;
  return encoder;
}

Spelling encoder_spelling() {
  return stack_spelling({{"dim", "dim_model"}, {"depth", "depth"}}, "encoder_kwargs");
}

}  // namespace

NeoMLPImpl::NeoMLPImpl(NeoMLPOptions options) : options_(std::move(options)) {
  const auto& o = options_;
  require_size(o.dim_in, "dim_in");
  require_count(o.dim_hidden, "dim_hidden");
  require_size(o.dim_out, "dim_out");
  require_size(o.dim_model, "dim_model");
  constexpr double kInitScale = 0.02;
  const auto nodes = [&](const char* name, int64_t count) {
    return register_parameter(name, at::randn({count, o.dim_model}) * kInitScale);
  };
  input_embed_ = nodes("input_embed", o.dim_in);
  hidden_embed_ = nodes("hidden_embed", o.dim_hidden);
  output_embed_ = nodes("output_embed", o.dim_out);
  auto fourier = register_module("random_fourier", make_scope());
  fourier_ =
      fourier->register_module("0", RandomFourierEmbed(RandomFourierEmbedOptions{o.dim_model}));
  fourier_projection_ = fourier->register_module("1", Linear(o.dim_model, o.dim_model));
  transformer_ = register_module("transformer", built(encoder_spelling(), [&] {
                                   return AttentionLayers(encoder_options(o));
                                 }));
  to_output_weights_ = register_parameter("to_output_weights", at::randn({o.dim_out, o.dim_model}));
  to_output_bias_ = register_parameter("to_output_bias", at::zeros({o.dim_out}));
}

Spelling NeoMLPImpl::part_spelling(const torch::nn::Module& part) const {
  return &part == transformer_.get() ? encoder_spelling() : Spelling();
}

NeoMLPImpl::Output NeoMLPImpl::forward(const at::Tensor& given) {
  const bool has_batch = given.dim() != 1;
  const auto x = has_batch ? given : given.unsqueeze(0);
  require_tensor(x, "x", TensorKind::floating, {{"batch"}, {"dim_in", options_.dim_in}});
  require_dtype_of(*fourier_projection_, x, "x");
  const auto batch = x.size(0);
  const auto repeated = [&](const at::Tensor& nodes) {
    return nodes.unsqueeze(0).expand({batch, -1, -1});
  };
  const auto input = fourier_projection_->forward(fourier_->forward(x)) + input_embed_;
  AttentionLayersInputs inputs;
  inputs.x = at::cat({input, repeated(hidden_embed_), repeated(output_embed_)}, 1);
  const auto nodes = transformer_->forward(inputs).out.split_with_sizes(
      {options_.dim_in, options_.dim_hidden, options_.dim_out}, 1);
  Output output;
  output.input = nodes[0];
  output.hidden = nodes[1];
  output.output = nodes[2];
  output.out = (output.output * to_output_weights_).sum(-1) + to_output_bias_;
  if (!has_batch) output.out = output.out.squeeze(0);
  return output;
}

std::shared_ptr<torch::nn::Module> NeoMLPImpl::clone(
    const std::optional<torch::Device>& device) const {
  return cloned(*this, device, [&] { return std::make_shared<NeoMLPImpl>(options_); });
}

}  // namespace x_transformers
