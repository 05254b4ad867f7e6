#include "x_transformers/nn/positions/rotary.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>

#include "x_transformers/core/error.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/tensor_check.h"
#include "x_transformers/ops/polar.h"

namespace x_transformers {

RotaryState RotaryState::amid(const at::Tensor& pos) {
  return {std::floor((pos.max().item<double>() + 1) / 2)};
}

RotaryState RotaryState::amid(int64_t counted, int64_t before, const at::Tensor& start) {
  const auto padding = start.defined() ? start.min().item<int64_t>() : 0;
  return {static_cast<double>((counted - padding) / 2 - before)};
}

RotaryEmbedding::RotaryEmbedding(const RotaryEmbeddingOptions& o)
    : scale_base_(o.scale_base), interpolation_factor_(o.interpolation_factor) {
  const auto dim = o.dim;
  require_size(dim, "dim");
  expect(o.interpolation_factor >= 1, at("interpolation_factor"), o.interpolation_factor,
         "1 or more");
  const auto d = static_cast<double>(dim);
  auto base = o.base;
  if (o.base_rescale_factor != 1.0) {
    require(dim != 2, at("rotary_base_rescale_factor"), "needs another {} than 2",
            option("rotary_emb_dim"));
    base *= std::pow(o.base_rescale_factor, d / (d - 2));
  }
  const auto exponents = at::arange(0, dim, 2, at::kFloat) / d;
  inv_freq_ = register_buffer("inv_freq", 1.0 / at::pow(base, exponents));
  if (o.use_xpos)
    scale_ = register_buffer("scale", (at::arange(0, dim, 2, at::kFloat) + 0.4 * d) / (1.4 * d));
}

RotaryTable RotaryEmbedding::forward(const at::Tensor& positions,
                                     std::optional<double> center) const {
  return make_rotary_table(positions, inv_freq_.to(at::kFloat), interpolation_factor_, scale_,
                           scale_base_, center);
}

at::Tensor RotaryEmbedding::scale_without_position(const at::Tensor& positions,
                                                   double center) const {
  if (!scale_.defined()) return {};
  const auto middle = at::floor_divide(positions.max() + 1, 2);
  return at::pow(scale_, (center - middle) / scale_base_);
}

RotaryAngles RotaryEmbedding::angles(const at::Tensor& positions) const {
  const auto of_features = [](const at::Tensor& pairs) { return pairs.repeat_interleave(2, -1); };
  const auto rows = positions.dim() == 1 ? positions.unsqueeze(0) : positions;
  const auto freqs =
      rows.to(inv_freq_.scalar_type()).unsqueeze(-1) * inv_freq_ / interpolation_factor_;
  if (!scale_.defined()) return {of_features(freqs), {}};
  const auto power = (rows - at::floor_divide(positions.max() + 1, 2)) / scale_base_;
  return {of_features(freqs), of_features(at::pow(scale_, power.unsqueeze(-1)))};
}

RotaryAngles RotaryAngles::rows(int64_t count, int64_t after) const {
  const auto cut = [&](const at::Tensor& t) {
    return t.defined() ? t.narrow(1, t.size(1) - after - count, count) : t;
  };
  return {cut(freqs), cut(scale)};
}

void require_angles(const at::Tensor& angles, const at::Tensor& t, const char* name) {
  const auto batch = t.size(0), positions = t.size(2), features = t.size(3);
  const bool fits = angles.is_floating_point() && angles.dim() >= 3 &&
                    angles.size(-2) >= positions && angles.size(-1) <= features &&
                    (angles.size(0) == 1 || angles.size(0) == batch);
  expect(fits, at(name), shown(angles.sizes()),
         "angles [1 or batch = {}, positions = {} or more, features = {} or less]", batch,
         positions, features);
}

at::Tensor apply_rotary_angles(const at::Tensor& t, const RotaryAngles& angles,
                               bool inverse_scale) {
  const auto used = angles.rows(t.size(2), 0);
  const auto freqs = used.freqs.unsqueeze(1);
  const auto d = freqs.size(-1);
  require(d % 2 == 0, at("rotary_pos_emb"), "rotates pairs of features, got angles of {}", d);
  const auto rotated = t.narrow(-1, 0, d);
  const auto pairs = rotated.unflatten(-1, {-1, 2});
  const auto half_rotated = at::stack({-pairs.select(-1, 1), pairs.select(-1, 0)}, -1).flatten(-2);
  auto out = rotated * freqs.cos() + half_rotated * freqs.sin();
  if (used.scale.defined()) {
    const auto scale = used.scale.unsqueeze(1);
    out = inverse_scale ? out / scale : out * scale;
  }
  return at::cat({out.to(t.scalar_type()), t.narrow(-1, d, t.size(-1) - d)}, -1);
}

PolarEmbedding::PolarEmbedding(const PolarEmbeddingOptions& o) {
  require_size(o.dim, "dim");
  require_size(o.heads, "heads");
  const auto exponents = at::arange(0, o.dim, at::kFloat) / static_cast<double>(o.dim);
  inv_freq_ = register_buffer("inv_freq", 1.0 / at::pow(o.base, exponents));
  learned_bias_ = register_parameter("learned_bias", at::zeros({o.heads, 1, o.dim}));
  torch::NoGradGuard no_grad;
  if (o.bias_uniform_init) learned_bias_.uniform_(-2 * M_PI, 0);
}

at::Tensor PolarEmbedding::forward(const at::Tensor& positions) const {
  const auto angles = positions.to(at::kFloat).unsqueeze(-1) * inv_freq_.to(at::kFloat);
  return angles.dim() == 2 ? angles.unsqueeze(0) : angles;
}

at::Tensor PolarEmbedding::key_bias() const { return learned_bias_.clamp(-2 * M_PI, 0); }

at::Tensor apply_polar_pos_emb(const at::Tensor& t, const at::Tensor& angles_given) {
  const auto length = t.size(-2);
  auto angles = angles_given.narrow(-2, angles_given.size(-2) - length, length);
  if (angles.dim() == 3) angles = angles.unsqueeze(1);
  while (angles.dim() < t.dim()) angles = angles.unsqueeze(0);
  if (angles.size(-1) == 1) angles = angles.expand({-1, -1, -1, t.size(-1)});
  return polar_positions(t, angles);
}

}  // namespace x_transformers
