// Queries, keys and values as kernels of attention take and write them.
#pragma once

#include <ATen/ATen.h>

#include "x_transformers/kernels/heads_of_tokens.h"

namespace x_transformers {

/// Room for [b, h, n, d] that lies in memory as [b, n, h, d], which projections read and write.
inline at::Tensor empty_positions_first(at::IntArrayRef sizes, const at::TensorOptions& options) {
  return at::empty({sizes[0], sizes[2], sizes[1], sizes[3]}, options).transpose(1, 2);
}
inline at::Tensor empty_positions_first_like(const at::Tensor& t) {
  return empty_positions_first(t.sizes(), t.options());
}

/// t [b, h, n, d]; that of a meta tensor has strides alone.
inline kernels::HeadsOfTokens heads_of_tokens(const at::Tensor& t) {
  kernels::HeadsOfTokens memory;
  memory.data = t.is_meta() ? nullptr : t.data_ptr();
  for (int i = 0; i < 3; ++i) memory.strides[i] = t.stride(i);
  return memory;
}

}  // namespace x_transformers
