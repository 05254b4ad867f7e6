#include "x_transformers/kernels/cpu/offset_scale.h"

#include <ATen/Parallel.h>

#include <algorithm>

#include "x_transformers/kernels/cpu/row_chunks.h"

namespace x_transformers::kernels {
namespace {

struct OffsetScaleLoops {
  void (*forward)(const OffsetScaleForward&, int64_t begin, int64_t end);
  void (*backward)(const OffsetScaleBackward&, float* gamma_grad, float* beta_grad, int64_t begin,
                   int64_t end);
};

}  // namespace
}  // namespace x_transformers::kernels

#define XT_LOOPS "x_transformers/kernels/cpu/offset_scale_loops.inc"
#include "x_transformers/kernels/cpu/for_each_isa.inc"

namespace x_transformers::kernels {

void offset_scale_forward(const OffsetScaleForward& params) {
  const auto rows = XT_SELECT(kOffsetScaleLoops).forward;
  at::parallel_for(0, params.rows, rows_per_task(params.heads * params.dim),
                   [&](int64_t begin, int64_t end) { rows(params, begin, end); });
}

void offset_scale_backward(const OffsetScaleBackward& params) {
  const auto rows = XT_SELECT(kOffsetScaleLoops).backward;
  const int64_t sums = params.heads * params.dim;
  for_row_chunks(params.rows, [&](int64_t chunk, int64_t begin, int64_t end) {
    float *gamma_grad = params.gamma_grad + chunk * sums,
          *beta_grad = params.beta_grad + chunk * sums;
    std::fill_n(gamma_grad, sums, 0.0f);
    std::fill_n(beta_grad, sums, 0.0f);
    rows(params, gamma_grad, beta_grad, begin, end);
  });
}

}  // namespace x_transformers::kernels
