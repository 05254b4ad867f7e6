// Linear layers of a few rows, as in decoding: reading the weights is all the work, so they are
// read once, row by row, as fast as memory gives them.
#pragma once

#include <cstdint>

#include "x_transformers/kernels/element.h"

namespace x_transformers::kernels {

/// out[m, n] = x[m, k] weight[n, k]^T + bias[n], of float or BFloat16; rows of x and out are dense.
/// Sums are made in float32.
template <class T>
struct FewRowsParams {
  int64_t m = 0;
  int64_t n = 0;
  int64_t k = 0;
  const T* x = nullptr;
  const T* weight = nullptr;
  int64_t weight_stride = 0;  ///< from row to row, whose entries lie beside each other
  const T* bias = nullptr;    ///< nullptr: none
  T* out = nullptr;
};

/// How many rows of a weight [n, k] one thread takes at a time, for `m` rows of x.
int64_t weight_rows_of_task(int64_t m, int64_t k);

void linear_few_rows(const FewRowsParams<float>& params);
void linear_few_rows(const FewRowsParams<BFloat16>& params);

}  // namespace x_transformers::kernels
