#include "x_transformers/train/ranks.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <set>
#include <vector>

#include "x_transformers/core/error.h"
#include "x_transformers/io/state_dict.h"

namespace x_transformers {

void share_weights(const torch::nn::Module& model, const WorldPlace& place,
                   const SumOverRanks& sum) {
  if (!sum) return;
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> weights;
  std::set<const void*> seen;  // tied weights are one
  for (const auto& [name, tensor] : state_dict(model)) {
    if (tensor.numel() == 0 || !seen.insert(tensor.const_data_ptr()).second) continue;
    weights.push_back(tensor.detach());
    if (!place.is_first()) weights.back().zero_();
  }
  sum(weights);
}

std::vector<int64_t> ranks_where(bool holds, const at::Device& device, const WorldPlace& place,
                                 const SumOverRanks& sum) {
  at::Tensor flags = at::zeros({place.world}, at::TensorOptions(device).dtype(at::kLong));
  flags[place.rank] = holds ? 1 : 0;
  sum({flags});
  flags = flags.cpu();
  std::vector<int64_t> ranks;
  for (int64_t rank = 0; rank < place.world; ++rank)
    if (flags[rank].item<int64_t>() != 0) ranks.push_back(rank);
  return ranks;
}

void require_same_step(int64_t step, const at::Device& device, const WorldPlace& place,
                       const SumOverRanks& sum) {
  if (!sum) return;
  at::Tensor steps = at::zeros({place.world}, at::TensorOptions(device).dtype(at::kLong));
  steps[place.rank] = step;  // the others' are 0
  sum({steps});
  steps = steps.cpu();
  for (int64_t rank = 0; rank < place.world; ++rank) {
    const auto other = steps[rank].item<int64_t>();
    if (other == step) continue;
    throw RunError(fmt::format(
        "rank {} goes on from step {}, rank {} from step {}: all must see the same folder",
        place.rank, step, rank, other));
  }
}

}  // namespace x_transformers
