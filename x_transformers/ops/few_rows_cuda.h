// Linear layers of a few rows on CUDA, as in decoding.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "x_transformers/ops/engines.h"

namespace x_transformers {

/// Why a kernel of ours cannot run a linear layer of x [..., dim] with this weight and bias, which
/// may be undefined: it has no gradients, and few rows.
Reasons few_rows_cuda_reasons(const at::Tensor& x, const at::Tensor& weight,
                              const at::Tensor& bias);

/// linear(x, weight, bias) for up to three weights [dim_out, dim], in one launch. `biases` is empty
/// or has one for each, which may be undefined.
std::vector<at::Tensor> few_rows_cuda(const at::Tensor& x, const std::vector<at::Tensor>& weights,
                                      const std::vector<at::Tensor>& biases = {});

}  // namespace x_transformers
