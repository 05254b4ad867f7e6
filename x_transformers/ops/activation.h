// Activations and gated linear units. CPU float32 and bfloat16, and CUDA, run fused kernels that
// keep only their input for the backward; all else runs plain ATen calls.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "x_transformers/kernels/activation.h"
#include "x_transformers/ops/engines.h"

namespace x_transformers {

/// gelu is the exact one (erf); relu_squared is max(x, 0)^2 (arXiv:2109.08668).
using Activation = kernels::ActivationKind;

/// activation(x + bias), any shape [..., dim]; bias is [dim] or undefined. Giving the bias of a
/// projection here in place of to the projection saves a pass over x, and another over its
/// gradient.
at::Tensor activate(const at::Tensor& x, Activation activation, const at::Tensor& bias = {});

/// Gated linear unit (arXiv:2002.05202) of x [..., 2 d] -> [..., d]: with x + bias cut into halves
/// x1 and x2, x1 * activation(x2). bias is [2 d] or undefined. Throws InputError where the last
/// dimension is odd.
at::Tensor glu(const at::Tensor& x, Activation activation, const at::Tensor& bias = {});

/// Whether a kernel adds the bias in the pass over x, and sums its gradient in that over x's. Where
/// none does, the bias is better given to the projection.
bool takes_bias(const at::Tensor& x);

/// As activate and glu, by the engine of this name. Throws InputError with the reasons where it
/// cannot run.
at::Tensor activate_on(const std::string& engine, const at::Tensor& x, Activation activation,
                       const at::Tensor& bias = {});
at::Tensor glu_on(const std::string& engine, const at::Tensor& x, Activation activation,
                  const at::Tensor& bias = {});
/// Their engines in order of preference, each with its reasons against.
std::vector<EngineReport> explain_activate(const at::Tensor& x, Activation activation,
                                           const at::Tensor& bias = {});
std::vector<EngineReport> explain_glu(const at::Tensor& x, Activation activation,
                                      const at::Tensor& bias = {});

/// Why the fused CPU kernels cannot run on x with this bias; empty: they can.
std::string activation_unsupported(const at::Tensor& x, const at::Tensor& bias = {});

/// The same functions made of ATen calls, for every device, dtype and order of gradient.
at::Tensor activate_reference(const at::Tensor& x, Activation activation,
                              const at::Tensor& bias = {});
at::Tensor glu_reference(const at::Tensor& x, Activation activation, const at::Tensor& bias = {});

}  // namespace x_transformers
