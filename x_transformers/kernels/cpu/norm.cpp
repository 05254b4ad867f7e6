#include "x_transformers/kernels/cpu/norm.h"

#include <ATen/Parallel.h>

#include <algorithm>

#include "x_transformers/kernels/cpu/row_chunks.h"

namespace x_transformers::kernels {
namespace {

using ForwardRows = void (*)(const NormForward&, int64_t begin, int64_t end);
using BackwardRows = void (*)(const NormBackward&, float* weight_grad, int64_t begin, int64_t end);

struct NormLoops {  // each by Element
  ForwardRows layer_norm_forward[2];
  BackwardRows layer_norm_backward[2];
  ForwardRows l2_norm_forward[2];
  BackwardRows l2_norm_backward[2];
};

}  // namespace
}  // namespace x_transformers::kernels

#define XT_LOOPS "x_transformers/kernels/cpu/norm_loops.inc"
#include "x_transformers/kernels/cpu/for_each_isa.inc"

namespace x_transformers::kernels {
namespace {

void run_forward(const NormForward& params, ForwardRows rows) {
  at::parallel_for(0, params.rows, rows_per_task(params.dim),
                   [&](int64_t begin, int64_t end) { rows(params, begin, end); });
}

void run_backward(const NormBackward& params, BackwardRows rows) {
  for_row_chunks(params.rows, [&](int64_t chunk, int64_t begin, int64_t end) {
    float* weight_grad = params.weight_grad;
    if (weight_grad != nullptr) {
      weight_grad += chunk * params.dim;
      std::fill_n(weight_grad, params.dim, 0.0f);
    }
    rows(params, weight_grad, begin, end);
  });
}

int index_of(Element element) { return static_cast<int>(element); }

}  // namespace

void layer_norm_forward(const NormForward& params) {
  run_forward(params, XT_SELECT(kNormLoops).layer_norm_forward[index_of(params.element)]);
}

void layer_norm_backward(const NormBackward& params) {
  run_backward(params, XT_SELECT(kNormLoops).layer_norm_backward[index_of(params.element)]);
}

void l2_norm_forward(const NormForward& params) {
  run_forward(params, XT_SELECT(kNormLoops).l2_norm_forward[index_of(params.element)]);
}

void l2_norm_backward(const NormBackward& params) {
  run_backward(params, XT_SELECT(kNormLoops).l2_norm_backward[index_of(params.element)]);
}

}  // namespace x_transformers::kernels
