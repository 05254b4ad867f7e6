// Parameters of several scaled and moved copies of the same features on CUDA.
#pragma once

#include <cstdint>

#include "x_transformers/kernels/element.h"
#include "x_transformers/kernels/pass.h"

namespace x_transformers::kernels {

/// Forward y[h, row] = x[row] * gamma[h] + beta[h]. Backward x[row] is the sum of y[h, row] *
/// gamma[h] over the heads.
struct OffsetScale {
  const void* from = nullptr;  ///< forward x [rows, dim], backward y [heads, rows, dim]; all dense
  void* to = nullptr;
  const void *gamma = nullptr, *beta = nullptr;  ///< [heads, dim]
  Element element = Element::float32;
  Pass pass = Pass::forward;
  int64_t heads = 0, rows = 0, dim = 0;
};

/// sums[chunk, 0, h] of x * y_grad[h], and sums[chunk, 1, h] of y_grad[h], over the rows of chunk.
struct OffsetScaleGradients {
  const void *x = nullptr, *y_grad = nullptr;
  float* sums = nullptr;  ///< [chunks, 2, heads, dim]
  Element element = Element::float32;
  int64_t heads = 0, rows = 0, dim = 0, chunks = 0;
};

}  // namespace x_transformers::kernels
