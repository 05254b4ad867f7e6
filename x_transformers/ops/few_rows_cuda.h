// Linear layers of a few rows on CUDA, as in decoding.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "x_transformers/ops/engines.h"
#include "x_transformers/ops/linear_ends.h"

namespace x_transformers {

/// Why a kernel of ours cannot run a linear layer of x [..., dim] with this weight and bias, which
/// may be undefined, and these ends: it has no gradients, few rows, and in 16 bits only ends or a
/// quantized weight.
Reasons few_rows_cuda_reasons(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                              const LinearEnds& ends = {});

/// linear_with_ends(x, weight, bias, ends) for up to three weights [dim_out, dim], in one launch;
/// all are quantized alike, or none is.
/// `biases` is empty or has one for each, which may be undefined.
std::vector<at::Tensor> few_rows_cuda(const at::Tensor& x, const std::vector<at::Tensor>& weights,
                                      const std::vector<at::Tensor>& biases = {},
                                      const LinearEnds& ends = {});

}  // namespace x_transformers
