// Where a run's random numbers come from, to and from checkpoints.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

#include "x_transformers/core/world_place.h"
#include "x_transformers/runs/checkpoint_state.h"

namespace x_transformers {

/// What a run draws from: whoever owns the generators says how their states are read and brought
/// back, each as the bytes of a tensor.
struct RandomSource {
  std::function<at::Tensor(const at::Device& device)> state;
  /// Empty: the generators are not the run's to set.
  std::function<void(const at::Device& device, const at::Tensor& state)> restore = {};
};

/// The default generators of the process, which operations draw from, to be read and set: for
/// programs, which own their process.
RandomSource process_generators();
/// The same, to be read and not set.
RandomSource read_process_generators();

/// The states of `source` now; of the CPU and, where `device` is another one, of that too.
RandomState random_state(const RandomSource& source, const at::Device& device);
/// Brings the states back; nothing, where `source` cannot be set. Throws InputError when `state` is
/// no such state or lacks that of `device`.
void set_random_state(const RandomSource& source, const RandomState& state,
                      const at::Device& device);

/// The states now of every rank's source, in their order; without `sum` there is one rank. Every
/// rank calls it and waits for the others.
std::vector<RandomState> random_states(const RandomSource& source, const at::Device& device,
                                       const WorldPlace& place, const SumOverRanks& sum);

}  // namespace x_transformers
