// Several scaled and moved copies of the same features: queries and keys from one projection
// (OffsetScale of FLASH-pytorch, arXiv:2202.10447).
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "x_transformers/ops/engines.h"

namespace x_transformers {

/// x * gamma + beta for each row of gamma and beta [heads, dim]: x [..., dim] -> [heads, ..., dim].
/// Throws InputError for sizes that do not fit.
at::Tensor offset_scale(const at::Tensor& x, const at::Tensor& gamma, const at::Tensor& beta);

/// The same, by the engine of this name. Throws InputError with the reasons where it cannot run.
at::Tensor offset_scale_on(const std::string& engine, const at::Tensor& x, const at::Tensor& gamma,
                           const at::Tensor& beta);

/// The engines in order of preference, each with its reasons against.
std::vector<EngineReport> explain_offset_scale(const at::Tensor& x, const at::Tensor& gamma,
                                               const at::Tensor& beta);

}  // namespace x_transformers
