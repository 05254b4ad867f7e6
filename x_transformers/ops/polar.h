// Polar positions (arXiv:2509.10534): how strong a feature is and where it stands are apart.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "x_transformers/ops/engines.h"

namespace x_transformers {

/// softplus(t) as radius at the given angles, cosine parts before sine parts: t [b, h, n, d] and
/// float32 angles [b or 1, h or 1, n, d] -> [b, h, n, 2 d] of t's type. On CUDA, in 16 bits, a
/// kernel of ours. Throws InputError for sizes that do not fit.
at::Tensor polar_positions(const at::Tensor& t, const at::Tensor& angles);

/// As polar_positions, by the engine of this name. Throws InputError with the reasons where it
/// cannot run.
at::Tensor polar_positions_on(const std::string& engine, const at::Tensor& t,
                              const at::Tensor& angles);
/// The engines of polar_positions in order of preference, each with its reasons against.
std::vector<EngineReport> explain_polar_positions(const at::Tensor& t, const at::Tensor& angles);

}  // namespace x_transformers
