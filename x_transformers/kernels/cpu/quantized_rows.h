// Linear layers of a few rows whose weights are quantized, as in decoding, and such weights made
// whole.
#pragma once

#include <cstdint>

#include "x_transformers/kernels/quantized.h"

namespace x_transformers::kernels {

/// out[m, n] = x[m, k] weight[n, k]^T + bias[n], all dense; sums are made in float32.
struct QuantizedRowsParams {
  int64_t m = 0;
  int64_t n = 0;
  QuantizedRow row;  ///< of the weight; k = row.dim
  const float* x = nullptr;
  const uint8_t* weight = nullptr;
  const float* bias = nullptr;  ///< nullptr: none
  float* out = nullptr;
};

void linear_quantized_rows(const QuantizedRowsParams& params);

/// out [n, row.dim] are the numbers that the rows of a weight [n] stand for.
void dequantize_rows(const uint8_t* weight, const QuantizedRow& row, int64_t n, float* out);

}  // namespace x_transformers::kernels
