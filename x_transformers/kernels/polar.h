// Parameters of polar positions on CUDA.
#pragma once

#include <cstdint>

#include "x_transformers/kernels/element.h"
#include "x_transformers/kernels/heads_of_tokens.h"

namespace x_transformers::kernels {

/// y[b, h, n, :] = r cos(a), then r sin(a), with r = softplus(t[b, h, n, :]) and the angles a[b, h,
/// n, :], of which all batch entries or all heads may have the same. Backward, from y_grad: t_grad,
/// and the gradient of the angles, summed over what has the same entry.
struct PolarPass {
  HeadsOfTokens t;  ///< [batch, heads, length, dim]
  Element element = Element::float32;
  HeadsOfTokens angles;  ///< float32 [.., .., length, dim]; strides of 0 where all have the same
  HeadsOfTokens y;       ///< [batch, heads, length, 2 dim]; of the forward pass
  HeadsOfTokens y_grad;  ///< the same; null: the forward pass
  HeadsOfTokens t_grad;
  float* angles_grad =
      nullptr;  ///< in memory like angles, which each head has its own of; nullptr: not wanted
  int64_t batch = 0;
  int64_t heads = 0;
  int64_t length = 0;
  int64_t dim = 0;  ///< in vectors of 16 bytes, to which all addresses and strides are aligned
};

}  // namespace x_transformers::kernels
