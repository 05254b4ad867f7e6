#include "x_transformers/kernels/cpu/rotary.h"

#include <ATen/Parallel.h>

#include "x_transformers/kernels/cpu/row_chunks.h"

namespace x_transformers::kernels {
namespace {

struct RotaryLoops {
  void (*by_element[2])(const RotaryParams&, int64_t begin, int64_t end);
};

}  // namespace
}  // namespace x_transformers::kernels

#define XT_LOOPS "x_transformers/kernels/cpu/rotary_loops.inc"
#include "x_transformers/kernels/cpu/for_each_isa.inc"

namespace x_transformers::kernels {

void rotary(const RotaryParams& params) {
  const auto loop = XT_SELECT(kRotaryLoops).by_element[static_cast<int>(params.element)];
  at::parallel_for(0, params.batch * params.length, rows_per_task(params.heads * params.dim),
                   [&](int64_t begin, int64_t end) { loop(params, begin, end); });
}

}  // namespace x_transformers::kernels
