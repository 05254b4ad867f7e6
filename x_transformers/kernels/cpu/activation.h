// Element-wise activations and gated linear units on the CPU.
#pragma once

#include "x_transformers/kernels/activation.h"

namespace x_transformers::kernels {

void activation_forward(const ActivationForward& params);
void activation_backward(const ActivationBackward& params);

}  // namespace x_transformers::kernels
