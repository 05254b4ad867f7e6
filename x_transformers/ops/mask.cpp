#include "x_transformers/ops/mask.h"

#include <ATen/ATen.h>

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

at::Tensor mask_and(const at::Tensor& a, const at::Tensor& b) {
  if (!a.defined()) return b;
  if (!b.defined()) return a;
  return a & b;
}

at::Tensor zero_masked_rows(const at::Tensor& x, const at::Tensor& mask) {
  return mask.defined() ? x.masked_fill(~mask.unsqueeze(-1), 0) : x;
}

}  // namespace x_transformers
