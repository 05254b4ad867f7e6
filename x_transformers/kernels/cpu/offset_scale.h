// Several scaled and moved copies of the same features on the CPU, in float32.
#pragma once

#include <cstdint>

namespace x_transformers::kernels {

/// y[h, row] = x[row] * gamma[h] + beta[h], all dense.
struct OffsetScaleForward {
  const float* x = nullptr;      ///< [rows, dim]
  const float* gamma = nullptr;  ///< [heads, dim]
  const float* beta = nullptr;   ///< [heads, dim]
  float* y = nullptr;            ///< [heads, rows, dim]
  int64_t heads = 0;
  int64_t rows = 0;
  int64_t dim = 0;
};

struct OffsetScaleBackward {
  const float* x = nullptr;
  const float* gamma = nullptr;
  const float* y_grad = nullptr;  ///< [heads, rows, dim]
  float* x_grad = nullptr;        ///< [rows, dim]
  float* gamma_grad = nullptr;    ///< sums of row_chunks(rows) chunks of rows, [chunks, heads, dim]
  float* beta_grad = nullptr;     ///< the same
  int64_t heads = 0;
  int64_t rows = 0;
  int64_t dim = 0;
};

void offset_scale_forward(const OffsetScaleForward& params);
void offset_scale_backward(const OffsetScaleBackward& params);

}  // namespace x_transformers::kernels
