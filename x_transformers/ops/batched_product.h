// Products of matrices in a batch.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "x_transformers/ops/engines.h"

namespace x_transformers {

/// a [b, m, k] times b [b, k, n] -> [b, m, n], as at::bmm. On a CPU where `linear` (ops/linear.h)
/// is faster than ATen's products, large float32 matrices are multiplied as it does, one by one.
at::Tensor batched_product(const at::Tensor& a, const at::Tensor& b);

/// The same, by the engine of this name. Throws InputError with the reasons where it cannot run.
at::Tensor batched_product_on(const std::string& engine, const at::Tensor& a, const at::Tensor& b);

/// The engines in order of preference, each with its reasons against.
std::vector<EngineReport> explain_batched_product(const at::Tensor& a, const at::Tensor& b);

}  // namespace x_transformers
