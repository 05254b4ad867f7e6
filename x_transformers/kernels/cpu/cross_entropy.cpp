#include "x_transformers/kernels/cpu/cross_entropy.h"

#include <ATen/Parallel.h>

#include "x_transformers/kernels/cpu/row_chunks.h"

namespace x_transformers::kernels {
namespace {

struct CrossEntropyLoops {  // each by Element
  void (*forward[2])(const CrossEntropyForward&, int64_t begin, int64_t end);
  void (*backward[2])(const CrossEntropyBackward&, int64_t begin, int64_t end);
};

}  // namespace
}  // namespace x_transformers::kernels

#define XT_LOOPS "x_transformers/kernels/cpu/cross_entropy_loops.inc"
#include "x_transformers/kernels/cpu/for_each_isa.inc"

namespace x_transformers::kernels {

void cross_entropy_forward(const CrossEntropyForward& params) {
  const auto loop = XT_SELECT(kCrossEntropyLoops).forward[static_cast<int>(params.element)];
  at::parallel_for(0, params.rows, rows_per_task(params.classes),
                   [&](int64_t begin, int64_t end) { loop(params, begin, end); });
}

void cross_entropy_backward(const CrossEntropyBackward& params) {
  const auto loop = XT_SELECT(kCrossEntropyLoops).backward[static_cast<int>(params.element)];
  at::parallel_for(0, params.rows, rows_per_task(params.classes),
                   [&](int64_t begin, int64_t end) { loop(params, begin, end); });
}

}  // namespace x_transformers::kernels
