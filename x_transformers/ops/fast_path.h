// What the fast paths of the ops share: when they apply, and gradients of gradients by way of
// the reference.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/custom_function.h>

#include <functional>
#include <initializer_list>
#include <string>

#include "x_transformers/kernels/element.h"

namespace x_transformers {

/// Whether autograd will want the gradient of what is computed from these (undefined ones do
/// not count).
bool records_gradient(std::initializer_list<at::Tensor> inputs);

/// Why the CPU kernels cannot read or write `x` (its device, dtype or layout), calling it `name`;
/// empty: they can.
std::string cpu_kernel_unsupported(const at::Tensor& x, const std::string& name);

/// The number format of a tensor of float32, bfloat16 or float16.
kernels::Element element_of(const at::Tensor& x);

using Reference = std::function<at::Tensor(const torch::autograd::variable_list&)>;

/// Differentiable gradients of reference(inputs) by each input (undefined for inputs without
/// gradient): for a backward pass that is to be differentiated itself, which that of a kernel
/// cannot be.
torch::autograd::variable_list differentiable_gradients(
    const Reference& reference, const torch::autograd::variable_list& inputs,
    const at::Tensor& output_grad);

}  // namespace x_transformers
