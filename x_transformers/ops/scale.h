// Scaling a tensor that nobody else reads.
#pragma once

#include <ATen/core/Tensor.h>

namespace x_transformers {

/// x * factor, in the memory of x, which must be dense and read by nobody else; factor [] is of any
/// floating type. On CUDA a kernel of ours, which has nothing to do where the factor is 1. Records
/// no gradients.
at::Tensor scaled_in_place(const at::Tensor& x, const at::Tensor& factor);

}  // namespace x_transformers
