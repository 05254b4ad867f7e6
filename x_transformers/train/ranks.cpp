#include "x_transformers/train/ranks.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <set>
#include <vector>

#include "x_transformers/core/error.h"
#include "x_transformers/io/state_dict.h"

namespace x_transformers {

void share_weights(const torch::nn::Module& model, const StartGivingToRanks& give) {
  if (!give) return;
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> weights;
  std::set<const void*> seen;  // tied weights are one
  for (const auto& [name, tensor] : state_dict(model)) {
    if (tensor.numel() == 0 || !seen.insert(tensor.const_data_ptr()).second) continue;
    weights.push_back(tensor.detach());
  }
  give(weights, std::vector<int64_t>(weights.size(), 0))();
}

std::vector<int64_t> numbers_of_ranks(int64_t own, const at::Device& device,
                                      const WorldPlace& place, const SumOverRanks& sum) {
  at::Tensor numbers = at::zeros({place.world}, at::TensorOptions(device).dtype(at::kLong));
  numbers[place.rank] = own;  // the others' are 0
  sum({numbers});
  numbers = numbers.cpu();
  const auto* first = numbers.const_data_ptr<int64_t>();
  return {first, first + place.world};
}

std::vector<int64_t> ranks_where(bool holds, const at::Device& device, const WorldPlace& place,
                                 const SumOverRanks& sum) {
  const auto flags = numbers_of_ranks(holds ? 1 : 0, device, place, sum);
  std::vector<int64_t> ranks;
  for (int64_t rank = 0; rank < place.world; ++rank)
    if (flags[static_cast<size_t>(rank)] != 0) ranks.push_back(rank);
  return ranks;
}

void require_same_step(int64_t step, const at::Device& device, const WorldPlace& place,
                       const SumOverRanks& sum) {
  if (!sum) return;
  const auto steps = numbers_of_ranks(step, device, place, sum);
  for (int64_t rank = 0; rank < place.world; ++rank) {
    const auto other = steps[static_cast<size_t>(rank)];
    if (other == step) continue;
    throw RunError(fmt::format(
        "rank {} goes on from step {}, rank {} from step {}: all must see the same folder",
        place.rank, step, rank, other));
  }
}

}  // namespace x_transformers
