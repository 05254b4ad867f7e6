// Parameters of what stands between the products of attention in groups (ops/group_attention.h) on
// CUDA.
#pragma once

#include <cstdint>

#include "x_transformers/kernels/element.h"

namespace x_transformers::kernels {

/// relus = max(0, scale * products + bias_scale * bias[middle + key - query]), 0 after the query
/// where it is `causal`; weights = relus^2.
struct GroupWeights {
  const void* products = nullptr;  ///< [matrices, size, size], dense as all here
  void *relus = nullptr, *weights = nullptr;
  Element element = Element::float32;
  int64_t matrices = 0, size = 0;
  float scale = 1, bias_scale = 1;
  const float* bias = nullptr;  ///< may be null
  int64_t middle = 0;
  bool causal = false;
};

/// grads *= 2 relus, from gradients of weights to those of scores, and 0 after the query where it
/// is `causal`. bias_grad: sums along diagonals of what is written, the one of key - query = d at
/// size - 1 + d.
struct GroupWeightsBackward {
  const void* relus = nullptr;
  void* grads = nullptr;  ///< [matrices, size, size]
  Element element = Element::float32;
  int64_t matrices = 0, size = 0;
  bool causal = false;
  float* bias_grad = nullptr;  ///< [matrices * group_weights_chunks, 2 size - 1], may be null
};

/// sums[b, i] becomes the sum of all sums[b, j] with j < i, or j > i where it goes `backwards`.
struct SumsOfOthers {
  void* sums = nullptr;  ///< [batch, count, size]
  Element element = Element::float32;
  int64_t batch = 0, count = 0, size = 0;
  bool backwards = false;
};

/// Forward out = x * gate. Backward x_grad = out_grad * gate and gate_grad = out_grad * x.
struct GateRows {
  const void* x = nullptr;         ///< [rows, dim]
  const void* gate = nullptr;      ///< [rows, dim], rows `gate_stride` apart
  const void* out_grad = nullptr;  ///< [rows, dim]; null: forward
  void* out = nullptr;             ///< [rows, dim]: out, or x_grad
  void* gate_grad = nullptr;       ///< as gate
  Element element = Element::float32;
  int64_t rows = 0, dim = 0, gate_stride = 0;
};

}  // namespace x_transformers::kernels
