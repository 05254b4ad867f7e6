// Products of float32 matrices on processors with bfloat16 tiles (Intel AMX). A float is split into
// the sum of up to three bfloat16 numbers, which hold all of its 24 bits; the tiles multiply the
// parts and add up in float32.
#pragma once

#include <cstdint>

namespace x_transformers::kernels {

/// How many parts of each float take part; the names are those of PyTorch's float32 matmul
/// precision.
enum class GemmPrecision {
  highest,  ///< three parts, six products: the error of a float32 product
  high,     ///< two parts, three products: 16 bits of each float
  medium,   ///< one part: bfloat16 operands
};

/// A matrix whose rows or whose columns are dense: one of the strides, which count elements, is 1.
struct GemmOperand {
  const float* data = nullptr;
  int64_t row_stride = 0;
  int64_t column_stride = 0;
};

/// out[m, n] = a[m, k] b[k, n] + bias[n]; or out += a b
struct GemmParams {
  int64_t m = 0;
  int64_t n = 0;
  int64_t k = 0;
  GemmOperand a;
  GemmOperand b;
  const float* bias = nullptr;  ///< [n], nullptr: none
  float* out = nullptr;
  int64_t out_stride = 0;  ///< between rows of out; 0: n
  bool adds = false;       ///< to what out holds, without a bias
  GemmPrecision precision = GemmPrecision::highest;
};

/// Whether this processor and system let `gemm` run (and `use_isa` has not asked for less).
bool can_gemm();

/// Needs `can_gemm()`. An entry that is not finite makes NaN of each sum it enters; parts of an
/// entry that lie below the normal range of float32 count as 0.
void gemm(const GemmParams& params);

}  // namespace x_transformers::kernels
