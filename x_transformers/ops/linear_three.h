// Three linear layers of one input, such as queries, keys and values.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <optional>

#include "x_transformers/ops/norm.h"

namespace x_transformers {

/// linear(x, weight) for each of three weights [dim_out, dim], without bias; x [..., dim], which
/// `norm`, where there is one, normalises first; weights and gamma are then older than x
/// (LinearEnds). On CUDA the backward pass adds up the gradient of x within its products, which
/// saves two passes over it; elsewhere three calls of linear.
std::array<at::Tensor, 3> linear_three(const at::Tensor& x,
                                       const std::array<at::Tensor, 3>& weights,
                                       const std::optional<RowNorm>& norm = std::nullopt);

}  // namespace x_transformers
