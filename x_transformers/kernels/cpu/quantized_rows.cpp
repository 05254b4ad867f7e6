#include "x_transformers/kernels/cpu/quantized_rows.h"

#include <ATen/Parallel.h>

#include "x_transformers/kernels/cpu/few_rows.h"

namespace x_transformers::kernels {
namespace {

/// What the loops need, and may not compute by functions of a header.
struct QuantizedCall {
  const QuantizedRowsParams& params;
  int64_t row_bytes;
  int64_t m;
};

/// Rows `begin..end-1` of the weight.
using QuantizedWeightRows = void (*)(const QuantizedCall&, int64_t begin, int64_t end);
/// One row of the weight.
using Dequantize = void (*)(const uint8_t* row, int64_t dim, float* out);

}  // namespace
}  // namespace x_transformers::kernels

#define XT_LOOPS "x_transformers/kernels/cpu/quantized_rows_loops.inc"
#include "x_transformers/kernels/cpu/for_each_isa.inc"

namespace x_transformers::kernels {

void linear_quantized_rows(const QuantizedRowsParams& params) {
  if (params.m == 0 || params.n == 0) return;
  const auto rows = params.row.bits == 8 ? XT_SELECT(kInt8Rows) : XT_SELECT(kInt4Rows);
  const QuantizedCall call{params, params.row.bytes(), params.m};
  at::parallel_for(0, params.n, weight_rows_of_task(params.m, params.row.dim),
                   [&](int64_t begin, int64_t end) { rows(call, begin, end); });
}

void dequantize_rows(const uint8_t* weight, const QuantizedRow& row, int64_t n, float* out) {
  if (n == 0) return;
  const auto dequantize = row.bits == 8 ? XT_SELECT(kWholeOfInt8) : XT_SELECT(kWholeOfInt4);
  at::parallel_for(0, n, weight_rows_of_task(1, row.dim), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      dequantize(weight + i * row.bytes(), row.dim, out + i * row.dim);
  });
}

}  // namespace x_transformers::kernels
