#include "x_transformers/kernels/cpu/few_rows.h"

#include <ATen/Parallel.h>

#include <algorithm>

namespace x_transformers::kernels {
namespace {

/// Rows `begin..end-1` of the weight.
using WeightRows = void (*)(const FewRowsParams&, int64_t begin, int64_t end);

}  // namespace
}  // namespace x_transformers::kernels

#define XT_LOOPS "x_transformers/kernels/cpu/few_rows_loops.inc"
#include "x_transformers/kernels/cpu/for_each_isa.inc"

namespace x_transformers::kernels {

void linear_few_rows(const FewRowsParams& params) {
  if (params.m == 0 || params.n == 0) return;
  // A part for another thread is worth its start from about here on.
  constexpr int64_t kEntriesOfTask = 1 << 15;
  const int64_t grain = std::max<int64_t>(1, kEntriesOfTask / std::max<int64_t>(1, params.k));
  const WeightRows rows = XT_SELECT(kFewRows)[params.m - 1];
  at::parallel_for(0, params.n, grain,
                   [&](int64_t begin, int64_t end) { rows(params, begin, end); });
}

}  // namespace x_transformers::kernels
