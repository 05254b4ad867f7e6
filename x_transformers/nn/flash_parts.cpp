#include "x_transformers/nn/flash_parts.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "x_transformers/core/rules.h"
#include "x_transformers/ops/activation.h"
#include "x_transformers/ops/gated_attention.h"
#include "x_transformers/ops/norm.h"
#include "x_transformers/ops/offset_scale.h"

namespace x_transformers {
namespace {

constexpr double kGammaDeviation = 0.02;

RelativePositionBiasOptions of_one_head(const FLASHT5RelativePositionBiasOptions& o) {
  return {o.scale, o.causal, o.num_buckets, o.max_distance, /*heads=*/1};
}

void validate(const FLASHRotaryEmbeddingOptions& o) {
  require_size(o.dim, "dim");
  require_positive(o.theta, "theta");
  require_positive(o.theta_rescale_factor, "theta_rescale_factor");
  expect(o.interpolate_factor >= 1, at("interpolate_factor"), o.interpolate_factor, "1 or more");
  expect(o.freqs_for == "lang" || o.freqs_for == "pixel" || o.freqs_for == "constant",
         at("freqs_for"), o.freqs_for, "lang, pixel or constant");
  require_size(o.num_freqs, "num_freqs");
  require(!o.custom_freqs || !o.custom_freqs->empty(), at("custom_freqs"),
          "expected at least one frequency, got none");
  require(o.dim != 2 || o.theta_rescale_factor == 1.0, at("theta_rescale_factor"),
          "needs another {} than 2", option("dim"));
}

at::Tensor frequencies(const FLASHRotaryEmbeddingOptions& o) {
  const auto pairs = o.dim / 2;
  if (o.custom_freqs) {
    // Not by at::tensor, which writes to memory that a dry run does not have.
    std::vector<at::Tensor> given;
    for (const auto frequency : *o.custom_freqs) given.push_back(at::full({}, frequency));
    return at::stack(given);
  }
  if (o.freqs_for == "constant") return at::ones({o.num_freqs});
  if (o.freqs_for == "pixel") return at::linspace(1.0, o.max_freq / 2, pairs) * std::numbers::pi;
  const auto dim = static_cast<double>(o.dim);
  auto theta = o.theta;
  if (o.theta_rescale_factor != 1.0) theta *= std::pow(o.theta_rescale_factor, dim / (dim - 2));
  return 1.0 / at::pow(theta, at::arange(0, 2 * pairs, 2, at::kFloat) / dim);
}

}  // namespace

OffsetScale::OffsetScale(const OffsetScaleOptions& o) {
  require_size(o.dim, "dim");
  require_size(o.heads, "heads");
  gamma_ = register_parameter("gamma", at::randn({o.heads, o.dim}) * kGammaDeviation);
  beta_ = register_parameter("beta", at::zeros({o.heads, o.dim}));
}

at::Tensor OffsetScale::forward(const at::Tensor& x) { return offset_scale(x, gamma_, beta_); }

FLASHScaleNorm::FLASHScaleNorm(const FLASHScaleNormOptions& o) : eps_(o.eps) {
  require_size(o.dim, "dim");
  require_positive(o.eps, "eps");
  g_ = register_parameter("g", at::ones({1}));
}

at::Tensor FLASHScaleNorm::forward(const at::Tensor& x, const at::Tensor&) {
  return scale_norm(x, g_, eps_);
}

BiasedLayerNorm::BiasedLayerNorm(const DimOptions& o) {
  require_size(o.dim, "dim");
  weight_ = register_parameter("weight", at::ones({o.dim}));
  bias_ = register_parameter("bias", at::zeros({o.dim}));
}

at::Tensor BiasedLayerNorm::forward(const at::Tensor& x, const at::Tensor&) {
  return layer_norm(x, weight_) + bias_;
}

std::shared_ptr<Norm> make_flash_norm(const std::string& norm_klass, int64_t dim) {
  const bool is_scale_norm = norm_klass == "ScaleNorm";
  expect(is_scale_norm || norm_klass == "LayerNorm", at("norm_klass"), norm_klass,
         "LayerNorm or ScaleNorm");
  if (is_scale_norm) return std::make_shared<FLASHScaleNorm>(FLASHScaleNormOptions{dim});
  return std::make_shared<BiasedLayerNorm>(DimOptions{dim});
}

void require_gated_width(double expansion_factor, int64_t dim) {
  const auto width = expansion_factor * static_cast<double>(dim);
  const bool fits = width >= 1 && width <= static_cast<double>(kMaxSize);
  expect(fits, at("expansion_factor"), expansion_factor, "1 to {} features of values, in {} = {}",
         kMaxSize, option("dim"), dim);
}

FLASHScaledSinuEmbedding::FLASHScaledSinuEmbedding(const FLASHScaledSinuEmbeddingOptions& o) {
  require_size(o.dim, "dim");
  scale_ = register_parameter("scale", at::ones({1}));
  const auto exponents = at::arange(0, o.dim, 2, at::kFloat) / static_cast<double>(o.dim);
  inv_freq_ = register_buffer("inv_freq", 1.0 / at::pow(10000.0, exponents));
}

at::Tensor FLASHScaledSinuEmbedding::forward(int64_t n, int64_t first) {
  const auto positions = at::arange(first, first + n, inv_freq_.options().dtype(at::kFloat));
  const auto angles = positions.unsqueeze(-1) * inv_freq_.to(at::kFloat);
  return at::cat({angles.sin(), angles.cos()}, -1).to(scale_.scalar_type()) * scale_;
}

FLASHT5RelativePositionBias::FLASHT5RelativePositionBias(
    const FLASHT5RelativePositionBiasOptions& o)
    : RelativePositionBias(of_one_head(o)) {}

at::Tensor FLASHT5RelativePositionBias::forward(int64_t first, int64_t n, int64_t keys) {
  const auto options = at::TensorOptions().dtype(at::kLong).device(parameters()[0].device());
  const PositionPairs pairs{at::arange(first, first + n, options), at::arange(keys, options),
                            std::max(first + n, keys)};
  return RelativePositionBias::forward(pairs).squeeze(0);
}

at::Tensor FLASHT5RelativePositionBias::by_distance(int64_t n) { return table(n).squeeze(0); }

FLASHRotaryEmbedding::FLASHRotaryEmbedding(const FLASHRotaryEmbeddingOptions& o)
    : interpolate_factor_(o.interpolate_factor) {
  validate(o);
  // Unless it is trained, a buffer keeps its precision where the weights do not.
  freqs_ = o.learned_freq ? register_parameter("freqs", frequencies(o))
                          : register_buffer("freqs", frequencies(o));
}

RotaryTable FLASHRotaryEmbedding::table(int64_t n, int64_t first) const {
  const auto positions = at::arange(first, first + n, freqs_.options().dtype(at::kLong));
  return make_rotary_table(positions, freqs_.to(at::kFloat), interpolate_factor_);
}

at::Tensor FLASHRotaryEmbedding::forward(const at::Tensor& positions) const {
  const auto angles = positions.to(freqs_.scalar_type()).unsqueeze(-1) * freqs_;
  return angles.repeat_interleave(2, -1);
}

at::Tensor LaplacianAttnFn::forward(const at::Tensor& x) { return laplace_attn_fn(x); }

SiluLinear::SiluLinear(int64_t dim_in, int64_t dim_out)
    : linear_(register_module("0", Linear(dim_in, dim_out))) {}

at::Tensor SiluLinear::forward(const at::Tensor& x) {
  return activate(linear(x, linear_->weight, at::Tensor()), Activation::silu, linear_->bias);
}

at::Tensor SiluLinear::forward(const at::Tensor& x, int64_t first, int64_t count) {
  const auto weight = linear_->weight.narrow(0, first, count);
  return activate(linear(x, weight, at::Tensor()), Activation::silu,
                  linear_->bias.narrow(0, first, count));
}

}  // namespace x_transformers
