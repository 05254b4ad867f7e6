// Parameters of polar positions on CUDA.
#pragma once

#include <cstdint>

#include "x_transformers/kernels/element.h"

namespace x_transformers::kernels {

/// y[b, h, n, :] = r cos(a), then r sin(a), with r = softplus(t[b, h, n, :]) and the angles a[b, h,
/// n, :], of which all batch entries or all heads may have the same. Strides, in elements, are
/// those of entries, heads and positions; features are dense. Backward, from y_grad: t_grad, and
/// the gradient of the angles, summed over what has the same entry.
struct PolarPass {
  const void* t = nullptr;  ///< [batch, heads, length, dim]
  Element element = Element::float32;
  int64_t t_strides[3] = {0, 0, 0};
  const float* angles = nullptr;         ///< [.., .., length, dim]
  int64_t angle_strides[3] = {0, 0, 0};  ///< 0 where all have the same
  const void* y_grad = nullptr;          ///< nullptr: the forward pass
  void* y = nullptr;                     ///< [batch, heads, length, 2 dim]
  int64_t y_strides[3] = {0, 0, 0};      ///< of y, or of y_grad
  void* t_grad = nullptr;
  int64_t t_grad_strides[3] = {0, 0, 0};
  float* angles_grad =
      nullptr;  ///< in memory like angles, which each head has its own of; nullptr: not wanted
  int64_t batch = 0;
  int64_t heads = 0;
  int64_t length = 0;
  int64_t dim = 0;  ///< in vectors of 16 bytes, to which all addresses and strides are aligned
};

}  // namespace x_transformers::kernels
