#include "x_transformers/ops/mask.h"

#include <ATen/ATen.h>

#include <limits>

#include "x_transformers/core/error.h"

namespace x_transformers {

namespace {
/// Query position minus key position, [i, j].
at::Tensor distances(int64_t i, int64_t j, const at::Device& device) {
  const auto options = at::TensorOptions().dtype(at::kLong).device(device);
  return at::arange(j - i, j, options).unsqueeze(-1) - at::arange(j, options);
}
}  // namespace

at::Tensor causal_mask(int64_t i, int64_t j, const at::Device& device) {
  return distances(i, j, device) >= 0;
}

at::Tensor window_mask(int64_t i, int64_t j, int64_t max_attend_past, const at::Device& device) {
  return distances(i, j, device) <= max_attend_past;
}

at::Tensor pad_mask_left(const at::Tensor& mask, int64_t count) {
  if (!mask.defined() || count == 0) return mask;
  return at::constant_pad_nd(mask, {count, 0}, 1);
}

at::Tensor spread_over_keys(const at::Tensor& pairs, int64_t sequence_keys, int64_t keys) {
  if (pairs.defined() && pairs.dim() == 0) return pairs.expand({keys});
  if (!pairs.defined() || pairs.size(-1) != 1 || sequence_keys == 1) return pairs;
  auto sizes = pairs.sizes().vec();
  sizes.back() = keys;
  return pairs.expand(sizes);
}

at::Tensor mask_and(const at::Tensor& a, const at::Tensor& b) {
  if (!a.defined()) return b;
  if (!b.defined()) return a;
  return a & b;
}

double masked_score(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return std::numeric_limits<float>::lowest();
    case at::kDouble:
      return std::numeric_limits<double>::lowest();
    case at::kHalf:
      return std::numeric_limits<at::Half>::lowest();
    case at::kBFloat16:
      return std::numeric_limits<at::BFloat16>::lowest();
    default:
      throw InputError(
          Notice{at("scores"), text("expected a floating type, got {}", at::toString(type))});
  }
}

at::Tensor zero_masked_rows(const at::Tensor& x, const at::Tensor& mask) {
  return mask.defined() ? x.masked_fill(~mask.unsqueeze(-1), 0) : x;
}

at::Tensor masked_mean(const at::Tensor& x, const at::Tensor& mask) {
  if (!mask.defined()) return x.mean(1);
  auto counts = mask;
  while (counts.dim() < x.dim()) counts = counts.unsqueeze(-1);
  return at::where(counts, x, at::zeros({}, x.options())).sum(1) / counts.sum(1).clamp_min(1);
}

}  // namespace x_transformers
