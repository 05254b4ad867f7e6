#include "x_transformers/kernels/cpu/activation.h"

#include <ATen/Parallel.h>

#include <algorithm>

#include "x_transformers/kernels/cpu/row_chunks.h"

namespace x_transformers::kernels {
namespace {

using Forward = void (*)(const void* x, const float* bias, void* y, int64_t n);
using Backward = void (*)(const void* x, const float* bias, const void* y_grad, void* x_grad,
                          float* bias_grad, int64_t n);

struct RowLoops {
  Forward activate;
  Backward activate_backward;
  Forward gate;
  Backward gate_backward;
};

struct ActivationLoops {
  RowLoops by_element[2];
};

}  // namespace
}  // namespace x_transformers::kernels

#define XT_LOOPS "x_transformers/kernels/cpu/activation_loops.inc"
#include "x_transformers/kernels/cpu/for_each_isa.inc"

namespace x_transformers::kernels {
namespace {

const RowLoops& loops_for(ActivationKind kind, Element element) {
  return XT_SELECT(kActivationLoops)[static_cast<int>(kind)].by_element[static_cast<int>(element)];
}

int64_t bytes_of(Element element) { return element == Element::float32 ? 4 : 2; }

const char* after(const void* start, int64_t bytes) {
  return static_cast<const char*>(start) + bytes;
}
char* after(void* start, int64_t bytes) { return static_cast<char*>(start) + bytes; }

constexpr int64_t kElementsPerTask = 16384;

}  // namespace

void activation_forward(const ActivationForward& params) {
  const RowLoops& loops = loops_for(params.kind, params.element);
  const int64_t bytes = bytes_of(params.element);
  if (!params.gated && params.bias == nullptr) {  // rows do not matter
    const auto run = [&](int64_t begin, int64_t end) {
      loops.activate(after(params.x, begin * bytes), nullptr, after(params.y, begin * bytes),
                     end - begin);
    };
    at::parallel_for(0, params.rows * params.dim, kElementsPerTask, run);
    return;
  }
  const Forward row_loop = params.gated ? loops.gate : loops.activate;
  const int64_t x_bytes = params.dim * bytes * (params.gated ? 2 : 1);
  const int64_t y_bytes = params.dim * bytes;
  const auto run = [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      row_loop(after(params.x, row * x_bytes), static_cast<const float*>(params.bias),
               after(params.y, row * y_bytes), params.dim);
    }
  };
  at::parallel_for(0, params.rows, rows_per_task(params.dim), run);
}

void activation_backward(const ActivationBackward& params) {
  const RowLoops& loops = loops_for(params.kind, params.element);
  const int64_t bytes = bytes_of(params.element);
  if (!params.gated && params.bias == nullptr) {
    const auto run = [&](int64_t begin, int64_t end) {
      const int64_t offset = begin * bytes;
      loops.activate_backward(after(params.x, offset), nullptr, after(params.y_grad, offset),
                              after(params.x_grad, offset), nullptr, end - begin);
    };
    at::parallel_for(0, params.rows * params.dim, kElementsPerTask, run);
    return;
  }
  const Backward row_loop = params.gated ? loops.gate_backward : loops.activate_backward;
  const int64_t x_dim = params.dim * (params.gated ? 2 : 1);
  const int64_t x_bytes = x_dim * bytes;
  const int64_t y_bytes = params.dim * bytes;
  for_row_chunks(params.rows, [&](int64_t chunk, int64_t begin, int64_t end) {
    float* bias_grad = params.bias_grad;
    if (bias_grad != nullptr) {
      bias_grad += chunk * x_dim;
      std::fill_n(bias_grad, x_dim, 0.0f);
    }
    for (int64_t row = begin; row < end; ++row) {
      row_loop(after(params.x, row * x_bytes), static_cast<const float*>(params.bias),
               after(params.y_grad, row * y_bytes), after(params.x_grad, row * x_bytes), bias_grad,
               params.dim);
    }
  });
}

}  // namespace x_transformers::kernels
