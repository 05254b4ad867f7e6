#include "x_transformers/kernels/cpu/few_rows.h"

#include <ATen/Parallel.h>

#include <algorithm>

namespace x_transformers::kernels {
namespace {

/// Rows `begin..end-1` of the weight.
template <class T>
using WeightRows = void (*)(const FewRowsParams<T>&, int64_t begin, int64_t end);

template <class T>
void in_parallel(const FewRowsParams<T>& params, WeightRows<T> rows) {
  if (params.m == 0 || params.n == 0) return;
  at::parallel_for(0, params.n, weight_rows_of_task(params.m, params.k),
                   [&](int64_t begin, int64_t end) { rows(params, begin, end); });
}

}  // namespace
}  // namespace x_transformers::kernels

#define XT_LOOPS "x_transformers/kernels/cpu/few_rows_loops.inc"
#include "x_transformers/kernels/cpu/for_each_isa.inc"

namespace x_transformers::kernels {

int64_t weight_rows_of_task(int64_t m, int64_t k) {
  // A part for another thread is worth its start from about here on.
  constexpr int64_t kEntriesOfTask = 1 << 15;
  const int64_t entries = std::max<int64_t>(1, k) * ((m + 3) / 4);
  return std::max<int64_t>(1, kEntriesOfTask / entries);
}

void linear_few_rows(const FewRowsParams<float>& params) {
  in_parallel(params, XT_SELECT(kFewRowsOfFloats));
}

void linear_few_rows(const FewRowsParams<BFloat16>& params) {
  in_parallel(params, XT_SELECT(kFewRowsOfBFloat16));
}

}  // namespace x_transformers::kernels
