// What several processes that train one model tell each other beside gradients.
#pragma once

#include <torch/nn/module.h>

#include <cstdint>
#include <vector>

#include "x_transformers/core/world_place.h"

namespace x_transformers {

/// Makes the parameters and buffers of `model` on every rank those of rank 0. Nothing without
/// `give`.
void share_weights(const torch::nn::Module& model, const StartGivingToRanks& give);

/// Waits until every rank is here. Throws RunError unless all go on from the same `step`: ranks
/// that read different folders do not. Nothing without `sum`.
void require_same_step(int64_t step, const at::Device& device, const WorldPlace& place,
                       const SumOverRanks& sum);

/// A number of each rank, by rank, the same on each. Waits until every rank is here.
std::vector<int64_t> numbers_of_ranks(int64_t own, const at::Device& device,
                                      const WorldPlace& place, const SumOverRanks& sum);

/// The ranks on which `holds`, the same on each. Waits until every rank is here.
std::vector<int64_t> ranks_where(bool holds, const at::Device& device, const WorldPlace& place,
                                 const SumOverRanks& sum);

/// What `make` returns: on rank 0 first, and on the others when it is done there, so that they find
/// what it has left.
template <class Make>
auto first_rank_first(const at::Device& device, const WorldPlace& place, const SumOverRanks& sum,
                      Make make) {
  if (sum && !place.is_first()) ranks_where(/*holds=*/false, device, place, sum);
  auto made = make();
  if (sum && place.is_first()) ranks_where(/*holds=*/false, device, place, sum);
  return made;
}

}  // namespace x_transformers
