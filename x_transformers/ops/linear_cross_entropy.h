// The loss of class predictions by a linear head, without all of its logits at once.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace x_transformers {

/// The mean of cross_entropy(linear(x, weight, bias), target) over the targets that are not
/// `ignore_index`, `chunk` rows of x at a time, so that no tensor holds more than chunk * classes
/// logits. x [..., dim], weight [classes, dim], bias [classes] or undefined, int64 target [...].
/// The loss is float32 (of double, double). Where gradients are recorded the forward pass makes
/// them as well, a chunk after the other (as arXiv:2410.10989 does), and keeps those of x, weight
/// and bias for the backward pass: no product is computed twice. Beyond rounding equal to
/// cross_entropy, which its gradients of gradients go by. Throws InputError for a chunk below 1 and
/// as cross_entropy does.
at::Tensor linear_cross_entropy(const at::Tensor& x, const at::Tensor& weight,
                                const at::Tensor& bias, const at::Tensor& target,
                                int64_t ignore_index, int64_t chunk);

}  // namespace x_transformers
