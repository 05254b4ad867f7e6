// Three linear layers of one input, such as queries, keys and values.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <optional>

#include "x_transformers/ops/norm.h"

namespace x_transformers {

struct LinearThreeOptions {
  /// Normalises x first; weights and gamma are then older than x (LinearEnds).
  std::optional<RowNorm> norm = {};
  /// Whether the outputs may be columns of one buffer (ops/side_by_side.h), for what reads them in
  /// place. Where the weights are rows of one matrix, the three products are then one. Where the
  /// gradients of the outputs come as such columns too, so are those of the backward pass.
  bool side_by_side = false;
};

/// linear(x, weight) for each of three weights [dim_out, dim], without bias; x [..., dim]. On CUDA
/// the backward pass adds up the gradient of x within its products, which saves two passes over it;
/// elsewhere three calls of linear.
std::array<at::Tensor, 3> linear_three(const at::Tensor& x,
                                       const std::array<at::Tensor, 3>& weights,
                                       const LinearThreeOptions& options = {});

}  // namespace x_transformers
