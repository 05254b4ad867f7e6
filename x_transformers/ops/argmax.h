// The largest number of each row, which is the token of greedy decoding.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "x_transformers/ops/engines.h"

namespace x_transformers {

/// x.argmax(-1) [...] of x [..., n], int64: the first of equal numbers; NaN is greater than any. On
/// CUDA a kernel of ours.
at::Tensor argmax_of_rows(const at::Tensor& x);

/// As argmax_of_rows, by the engine of this name. Throws InputError with the reasons where it
/// cannot run.
at::Tensor argmax_of_rows_on(const std::string& engine, const at::Tensor& x);
/// The engines of argmax_of_rows in order of preference, each with its reasons against.
std::vector<EngineReport> explain_argmax_of_rows(const at::Tensor& x);

}  // namespace x_transformers
