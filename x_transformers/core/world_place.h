// Several processes that train one model together, and which of them this one is.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

namespace x_transformers {

/// A process's place among those that train one model: its number and how many there are. Each
/// takes its share of every batch; rank 0 writes the run's files and reports.
struct WorldPlace {
  int64_t rank = 0;   ///< from 0 to world - 1
  int64_t world = 1;  ///< processes in all

  bool is_first() const { return rank == 0; }
};

/// Replaces each of `tensors`, which are on this process's device, by its sum over all processes:
/// the same numbers on each, to the bit. Every process calls it as often, with tensors of the same
/// shapes and types. It is captured with the rest of a training step, so it must not wait for the
/// device.
using SumOverRanks = std::function<void(const std::vector<at::Tensor>& tensors)>;

/// The largest of a number over all processes, the same on each. They agree on the host: no device
/// is asked, nor waited for. Every process calls it as often.
using MostOverRanks = std::function<int64_t(int64_t own)>;

/// What has begun: called once, it waits for the end.
using StartedSum = std::function<void()>;
/// Begins a SumOverRanks, which goes on while the process does other work; every process begins
/// its sums in the same order.
using StartSumOverRanks = std::function<StartedSum(const std::vector<at::Tensor>& tensors)>;
/// Begins, in the same order, to replace each of `tensors` by that of the process which owns it:
/// the rank in `owners`, of which there are as many.
using StartGivingToRanks = std::function<StartedSum(const std::vector<at::Tensor>& tensors,
                                                    const std::vector<int64_t>& owners)>;

/// `sum`, begun and ended at once.
StartSumOverRanks as_started(SumOverRanks sum);
/// Gives by sums, which move twice as much: all but the owner have zeros.
StartGivingToRanks giving_by_sums(StartSumOverRanks start, const WorldPlace& place);

}  // namespace x_transformers
