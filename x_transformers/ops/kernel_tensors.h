// Tensors as kernels take them.
#pragma once

#include <ATen/core/Tensor.h>

namespace x_transformers {

/// t [b, h, n, d], copied unless its last dimension is dense.
inline at::Tensor with_dense_features(const at::Tensor& t) {
  return t.stride(3) == 1 || t.numel() == 0 ? t : t.contiguous();
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
