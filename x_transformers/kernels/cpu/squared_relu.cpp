#include "x_transformers/kernels/cpu/squared_relu.h"

#include <ATen/Parallel.h>

#include <vector>

#include "x_transformers/kernels/cpu/row_chunks.h"

namespace x_transformers::kernels {
namespace {

struct SquaredReluLoops {
  void (*forward)(const SquaredReluForward&, int64_t begin, int64_t end);
  void (*backward)(const SquaredReluBackward&, float* bias_grad, int64_t begin, int64_t end);
};

}  // namespace
}  // namespace x_transformers::kernels

#define XT_LOOPS "x_transformers/kernels/cpu/squared_relu_loops.inc"
#include "x_transformers/kernels/cpu/for_each_isa.inc"

namespace x_transformers::kernels {

void squared_relu_forward(const SquaredReluForward& params) {
  const auto rows = XT_SELECT(kSquaredReluLoops).forward;
  at::parallel_for(0, params.rows, rows_per_task(params.columns),
                   [&](int64_t begin, int64_t end) { rows(params, begin, end); });
}

void squared_relu_backward(const SquaredReluBackward& params) {
  const auto rows = XT_SELECT(kSquaredReluLoops).backward;
  if (params.bias_grad == nullptr || params.bias_stride >= params.columns) {
    at::parallel_for(
        0, params.rows, rows_per_task(params.columns), [&](int64_t begin, int64_t end) {
          rows(
              params,
              params.bias_grad == nullptr ? nullptr : params.bias_grad + begin * params.bias_stride,
              begin, end);
        });
    return;
  }
  // Rows of the bias overlap: each chunk of queries has sums of its own.
  const int64_t chunks = row_chunks(params.rows);
  const int64_t per_chunk = chunks == 0 ? 0 : (params.rows + chunks - 1) / chunks;
  const int64_t sums = params.columns + per_chunk;
  std::vector<float> partial(static_cast<size_t>(chunks * sums));
  for_row_chunks(params.rows, [&](int64_t chunk, int64_t begin, int64_t end) {
    // The last query of a whole chunk has its row at the front.
    if (begin < end) rows(params, partial.data() + chunk * sums + per_chunk - 1, begin, end);
  });
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    // Queries of the chunk, of which the last may lack some.
    const int64_t begin = std::min(params.rows, chunk * per_chunk);
    const int64_t count = std::min(params.rows, begin + per_chunk) - begin;
    const float* from = partial.data() + chunk * sums + per_chunk - count;
    float* to = params.bias_grad - (begin + count - 1);
    for (int64_t i = 0; count > 0 && i < params.columns + count - 1; ++i) to[i] += from[i];
  }
}

}  // namespace x_transformers::kernels
