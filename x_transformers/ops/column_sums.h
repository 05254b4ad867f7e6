// Sums down the columns of a matrix, as the gradients of biases are.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "x_transformers/ops/engines.h"

namespace x_transformers {

/// x.sum(0) [columns] of x [rows, columns], as `dtype`. On CUDA a kernel of ours, which sums 16
/// bits in float32, in an order that is the same in every run. Records no gradients.
at::Tensor column_sums(const at::Tensor& x, at::ScalarType dtype);

/// As column_sums, by the engine of this name. Throws InputError with the reasons where it cannot
/// run.
at::Tensor column_sums_on(const std::string& engine, const at::Tensor& x, at::ScalarType dtype);
/// The engines of column_sums in order of preference, each with its reasons against.
std::vector<EngineReport> explain_column_sums(const at::Tensor& x, at::ScalarType dtype);

}  // namespace x_transformers
