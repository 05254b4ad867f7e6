// Whether the numbers that a call gives are of the type of the weights that they meet.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

namespace x_transformers {

/// Throws InputError that names `t`, numbers of a call, unless they are of the type of the weights
/// of `module`: LibTorch would say so of one of its own functions. A module without weights takes
/// any.
void require_dtype_of(const torch::nn::Module& module, const at::Tensor& t, const char* name);

/// The weight of a module by which that is told; undefined: it has none.
at::Tensor first_weight(const torch::nn::Module& module);
/// The same of a large module that is called for each token, and has kept its first_weight since it
/// was built: to look for it would take a hundredth of such a call.
void require_dtype_of(const torch::nn::Module& module, const at::Tensor& first_weight,
                      const at::Tensor& t, const char* name);

}  // namespace x_transformers
