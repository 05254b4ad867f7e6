// Parameters of element-wise activations and gated linear units, of every device, with the bias of
// the projection before them. Memory is of the device whose kernel gets them.
#pragma once

#include <cstdint>

#include "x_transformers/kernels/element.h"

namespace x_transformers::kernels {

enum class ActivationKind { identity, relu, relu_squared, gelu, gelu_tanh, silu, sigmoid, tanh };
constexpr int kActivationKinds = 8;

/// y = act(x + bias), x and y dense [rows, dim], bias [dim]; or when gated, x dense [rows, 2 dim],
/// bias [2 dim] and y = (x1 + bias1) * act(x2 + bias2) with the two halves of x.
struct ActivationForward {
  const void* x = nullptr;
  void* y = nullptr;
  Element element = Element::float32;
  /// On the CPU float32, on CUDA of the type of x; nullptr: none.
  const void* bias = nullptr;
  ActivationKind kind = ActivationKind::identity;
  bool gated = false;
  int64_t rows = 0;
  int64_t dim = 0;
};

/// `bias_grad` receives dense [chunks, dim or 2 dim] partial sums of x_grad, to be added up by the
/// caller; nullptr when it is not wanted. What the device's kernel asks for is row_chunks(rows) on
/// the CPU and activation_chunks on CUDA.
struct ActivationBackward {
  const void* x = nullptr;
  const void* y_grad = nullptr;
  void* x_grad = nullptr;
  Element element = Element::float32;
  const void* bias = nullptr;
  float* bias_grad = nullptr;
  int64_t chunks = 0;
  ActivationKind kind = ActivationKind::identity;
  bool gated = false;
  int64_t rows = 0;
  int64_t dim = 0;
};

}  // namespace x_transformers::kernels
