#include "x_transformers/kernels/cpu/quantized_rows.h"

#include <ATen/Parallel.h>

#include <algorithm>

namespace x_transformers::kernels {
namespace {

/// Rows `begin..end-1` of the weight.
using QuantizedWeightRows = void (*)(const QuantizedRowsParams&, int64_t row_bytes, int64_t begin,
                                     int64_t end);
/// One row of the weight.
using Dequantize = void (*)(const uint8_t* row, int64_t dim, float* out);

// A part for another thread is worth its start from about here on.
constexpr int64_t kEntriesOfTask = 1 << 15;

}  // namespace
}  // namespace x_transformers::kernels

#define XT_LOOPS "x_transformers/kernels/cpu/quantized_rows_loops.inc"
#include "x_transformers/kernels/cpu/for_each_isa.inc"

namespace x_transformers::kernels {

void linear_quantized_rows(const QuantizedRowsParams& params) {
  if (params.m == 0 || params.n == 0) return;
  const auto rows = params.row.bits == 8 ? XT_SELECT(kInt8Rows) : XT_SELECT(kInt4Rows);
  const int64_t entries = std::max<int64_t>(1, params.row.dim) * ((params.m + 3) / 4);
  at::parallel_for(
      0, params.n, std::max<int64_t>(1, kEntriesOfTask / entries),
      [&](int64_t begin, int64_t end) { rows(params, params.row.bytes(), begin, end); });
}

void dequantize_rows(const uint8_t* weight, const QuantizedRow& row, int64_t n, float* out) {
  if (n == 0) return;
  const auto dequantize = row.bits == 8 ? XT_SELECT(kWholeOfInt8) : XT_SELECT(kWholeOfInt4);
  at::parallel_for(0, n, std::max<int64_t>(1, kEntriesOfTask / std::max<int64_t>(1, row.dim)),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t i = begin; i < end; ++i)
                       dequantize(weight + i * row.bytes(), row.dim, out + i * row.dim);
                   });
}

}  // namespace x_transformers::kernels
