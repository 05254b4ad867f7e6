// Product of float32 matrices on the CPU, for the linear layers of a training step.
#pragma once

#include <cstdint>

namespace x_transformers::kernels {

/// A matrix whose element (i, j) is data[i * row_stride + j * column_stride]; one of the strides
/// is 1.
struct MatrixView {
  const float* data = nullptr;
  int64_t row_stride = 0;
  int64_t column_stride = 1;
};

/// c [m, n] = a [m, k] b [k, n] + bias, with dense rows of c.
struct Gemm {
  int64_t m = 0;
  int64_t n = 0;
  int64_t k = 0;
  MatrixView a;
  MatrixView b;
  float* c = nullptr;
  int64_t c_row_stride = 0;
  const float* bias = nullptr;  ///< [n], nullptr: none
};

void gemm(const Gemm& params);

}  // namespace x_transformers::kernels
