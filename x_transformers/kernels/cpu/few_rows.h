// Linear layers of a few rows, as in decoding: reading the weights is all the work, so they are
// read once, row by row, as fast as memory gives them.
#pragma once

#include <cstdint>

namespace x_transformers::kernels {

/// The most rows of x.
constexpr int64_t kMostFewRows = 4;

/// out[m, n] = x[m, k] weight[n, k]^T + bias[n], m up to kMostFewRows; rows of x and out are dense.
struct FewRowsParams {
  int64_t m = 0;
  int64_t n = 0;
  int64_t k = 0;
  const float* x = nullptr;
  const float* weight = nullptr;
  int64_t weight_stride = 0;    ///< from row to row, whose entries lie beside each other
  const float* bias = nullptr;  ///< nullptr: none
  float* out = nullptr;
};

void linear_few_rows(const FewRowsParams& params);

}  // namespace x_transformers::kernels
