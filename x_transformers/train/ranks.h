// How several processes that train one model begin.
#pragma once

#include <torch/nn/module.h>

#include <cstdint>

#include "x_transformers/core/world_place.h"

namespace x_transformers {

/// Makes the parameters and buffers of `model` on every rank those of rank 0. Nothing without
/// `sum`.
void share_weights(const torch::nn::Module& model, const WorldPlace& place,
                   const SumOverRanks& sum);

/// Waits until every rank is here. Throws RunError unless all go on from the same `step`: ranks
/// that read different folders do not. Nothing without `sum`.
void require_same_step(int64_t step, const at::Device& device, const WorldPlace& place,
                       const SumOverRanks& sum);

}  // namespace x_transformers
