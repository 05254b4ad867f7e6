#include "x_transformers/core/world_place.h"

#include <ATen/ATen.h>

#include <utility>

namespace x_transformers {

StartSumOverRanks as_started(SumOverRanks sum) {
  return [sum = std::move(sum)](const std::vector<at::Tensor>& tensors) -> StartedSum {
    sum(tensors);
    return [] {};
  };
}

StartGivingToRanks giving_by_sums(StartSumOverRanks start, const WorldPlace& place) {
  return [start = std::move(start), place](const std::vector<at::Tensor>& tensors,
                                           const std::vector<int64_t>& owners) {
    const at::NoGradGuard no_grad;
    for (size_t i = 0; i < tensors.size(); ++i)
      if (owners[i] != place.rank) at::Tensor(tensors[i]).zero_();
    return start(tensors);
  };
}

}  // namespace x_transformers
