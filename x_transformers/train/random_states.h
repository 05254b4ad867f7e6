// The random number generators of the process, to and from checkpoints.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "x_transformers/core/world_place.h"
#include "x_transformers/runs/checkpoint_state.h"

namespace x_transformers {

/// The states now; of the CPU and, where `device` is another one, of that too.
RandomState random_state(const at::Device& device);
/// Brings the states back. Throws InputError when `state` is no such state or lacks that of
/// `device`.
void set_random_state(const RandomState& state, const at::Device& device);

/// The states now of every rank's generators, in their order; without `sum` there is one rank.
/// Every rank calls it and waits for the others.
std::vector<RandomState> random_states(const at::Device& device, const WorldPlace& place,
                                       const SumOverRanks& sum);

}  // namespace x_transformers
