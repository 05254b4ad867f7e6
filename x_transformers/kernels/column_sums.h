// Parameters of sums down the columns of a matrix, on CUDA.
#pragma once

#include <cstdint>

#include "x_transformers/kernels/element.h"

namespace x_transformers::kernels {

/// sums[c] = the sum of x[r, c] over all rows, in float32, as gradients of biases and of gains are.
struct ColumnSums {
  const void* x = nullptr;  ///< [rows, columns]; a row's numbers are side by side
  Element element = Element::float32;
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t stride = 0;    ///< numbers from row to row
  void* sums = nullptr;  ///< [columns]
  Element sums_element = Element::float32;
  /// So many parts that the rows are cut into: column_sum_chunks(rows, columns).
  int64_t chunks = 1;
  float* partial = nullptr;  ///< dense [chunks, columns]; not used with one chunk
};

}  // namespace x_transformers::kernels
