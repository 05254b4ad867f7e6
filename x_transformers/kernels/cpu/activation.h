// Element-wise activations and gated linear units on the CPU, with the bias of the projection
// before them.
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
  const float* bias = nullptr;  ///< nullptr: none
  ActivationKind kind = ActivationKind::identity;
  bool gated = false;
  int64_t rows = 0;
  int64_t dim = 0;
};

/// `bias_grad` receives dense [row_chunks(rows), dim or 2 dim] partial sums of x_grad, to be added
/// up by the caller; nullptr when it is not wanted.
struct ActivationBackward {
  const void* x = nullptr;
  const void* y_grad = nullptr;
  void* x_grad = nullptr;
  Element element = Element::float32;
  const float* bias = nullptr;
  float* bias_grad = nullptr;
  ActivationKind kind = ActivationKind::identity;
  bool gated = false;
  int64_t rows = 0;
  int64_t dim = 0;
};

void activation_forward(const ActivationForward& params);
void activation_backward(const ActivationBackward& params);

}  // namespace x_transformers::kernels
