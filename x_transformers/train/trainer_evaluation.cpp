#include "x_transformers/train/trainer_evaluation.h"

#include <ATen/ATen.h>
#include <ATen/DeviceAccelerator.h>

#include <algorithm>

#include "x_transformers/runs/progress.h"

namespace x_transformers {

EvaluationScope::EvaluationScope(torch::nn::Module& model, const Optimizer& optimizer,
                                 const Ema* ema)
    : model_(model),
      was_training_(model.is_training()),
      random_(optimizer.parameters().tensors.front().device()) {
  if (ema != nullptr) {
    const auto parameters = optimizer.kept_parameters().tensors;
    auto averages = ema->averages();
    for (size_t i = 0; i < averages.size(); ++i)
      averages[i] = averages[i].to(parameters[i].scalar_type());
    averaged_ = std::make_unique<ScopedWeights>(parameters, averages);
  }
  model_.eval();
}

EvaluationScope::~EvaluationScope() { model_.train(was_training_); }

Batch to_device(Batch batch, const at::Device& device) {
  for (auto& [name, tensor] : batch.tensors) {
    if (tensor.device() == device) continue;
    tensor = (tensor.is_cpu() ? tensor.pin_memory() : tensor).to(device, /*non_blocking=*/true);
  }
  return batch;
}

std::optional<int64_t> memory_in_use(const at::Device& device) {
  if (device.is_cpu()) return resident_memory_bytes();
  const auto stats = at::accelerator::getDeviceStats(device.index());
  return stats.allocated_bytes[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)]
      .peak;
}

std::optional<double> mean_loss(const LossFunction& loss, const BatchFunction& batch, int64_t count,
                                const at::Device& device, const std::function<bool()>& stop,
                                const WorldPlace& place, const SumOverRanks& sum,
                                ParameterShards* shards) {
  // In double: the targets of all batches may be more than a float can count.
  at::Tensor total = at::zeros({}, at::TensorOptions(device).dtype(at::kDouble));
  int64_t targets = 0;
  const int64_t ranks = sum ? place.world : 1, own = sum ? place.rank : 0;
  for (int64_t first = 0; first < count; first += ranks) {
    for (int64_t i = first; i < std::min(first + ranks, count); ++i)
      if (stop()) return std::nullopt;
    const bool is_over = first + own >= count;
    if (is_over && shards == nullptr) break;
    // With shards of the model each rank goes through it as often as the others.
    const Batch given = to_device(batch(is_over ? first : first + own), device);
    const int64_t weight = is_over ? 0 : given.targets;
    if (weight == 0 && shards == nullptr) continue;  // a mean over none
    if (shards != nullptr) shards->begin_forward();
    const auto mean = loss(given).detach().to(at::kDouble);
    if (weight == 0) continue;
    total.add_(mean, weight);
    targets += weight;
  }
  if (shards != nullptr) shards->release();
  at::Tensor count_of_targets = at::full({}, targets, total.options());
  if (sum) sum({total, count_of_targets});
  return unsigned_nan(total.item<double>() / count_of_targets.item<double>());
}

}  // namespace x_transformers
