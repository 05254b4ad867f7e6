// Parameters of what the gradient of attention's sinks is a sum of, on CUDA.
#pragma once

#include <cstdint>

#include "x_transformers/kernels/element.h"

namespace x_transformers::kernels {

/// terms[b, i, h] = -exp(sinks[h] - log_sum_exp[b, h, i]) * (out[b, i, h, :] . out_grad[b, i, h,
/// :]): a sink's weight has no value, so its gradient is the sum of these over b and i. All are
/// dense.
struct SinkTerms {
  const void* out = nullptr;       ///< [batch, length, heads, dim]
  const void* out_grad = nullptr;  ///< likewise
  Element element = Element::float32;
  const float* sinks = nullptr;        ///< [heads]
  const float* log_sum_exp = nullptr;  ///< [batch, heads, length]
  float* terms = nullptr;              ///< [batch, length, heads]
  int64_t batch = 0;
  int64_t length = 0;
  int64_t heads = 0;
  int64_t dim = 0;  ///< at most 256, in vectors of 16 bytes
};

}  // namespace x_transformers::kernels
