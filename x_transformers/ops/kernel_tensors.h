// Tensors as kernels take them.
#pragma once

#include <ATen/ATen.h>

namespace x_transformers {

/// t [b, h, n, d], copied unless its last dimension is dense.
inline at::Tensor with_dense_features(const at::Tensor& t) {
  return t.stride(3) == 1 || t.numel() == 0 ? t : t.contiguous();
}

/// t, copied unless its rows, the last dimension, are dense and lie one after the other in memory,
/// in whatever order.
inline at::Tensor with_dense_rows_in_any_order(const at::Tensor& t) {
  const bool has_rows = t.dim() == 0 || t.stride(-1) == 1 || t.size(-1) == 1;
  return t.is_non_overlapping_and_dense() && has_rows ? t : t.contiguous();
}

/// t, copied unless it lies in memory as `like` does.
inline at::Tensor in_memory_like(const at::Tensor& t, const at::Tensor& like) {
  return t.strides() == like.strides() ? t : at::empty_like(like, t.options()).copy_(t);
}

/// The numbers of a float32 tensor; null where it is undefined.
inline const float* data_or_null(const at::Tensor& t) {
  return t.defined() ? t.const_data_ptr<float>() : nullptr;
}

/// The same, to be written.
inline float* mutable_data_or_null(const at::Tensor& t) {
  return t.defined() ? t.mutable_data_ptr<float>() : nullptr;
}

}  // namespace x_transformers
