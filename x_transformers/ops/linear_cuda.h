// Linear layers of many rows on CUDA: cuBLAS's products, with what is faster than ATen's way around
// them. An engine of linear and of linear_with_ends.
#pragma once

#include <ATen/core/Tensor.h>

#include "x_transformers/ops/engines.h"

namespace x_transformers {

/// residual + x weight^T + bias, bias and residual undefined or as of linear_with_ends. The
/// residual is added within the product, and the gradient of the bias is column_sums.
at::Tensor linear_cuda(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                       const at::Tensor& residual = {});

/// Why it cannot run; empty: it can.
Reasons linear_cuda_reasons(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                            const at::Tensor& residual = {});

/// Whether a residual connection around a branch of x is best left to the branch's last product:
/// on CUDA, in 16 bits, with gradients.
bool adds_in_product(const at::Tensor& x);

}  // namespace x_transformers
