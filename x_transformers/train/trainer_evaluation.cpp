#include "x_transformers/train/trainer_evaluation.h"

#include <ATen/ATen.h>
#include <ATen/DeviceAccelerator.h>

#include "x_transformers/runs/progress.h"

namespace x_transformers {

EvaluationScope::EvaluationScope(torch::nn::Module& model, const AdamW& optimizer, const Ema* ema)
    : model_(model),
      was_training_(model.is_training()),
      random_(optimizer.parameters().tensors.front().device()) {
  if (ema != nullptr) {
    const auto& parameters = optimizer.parameters().tensors;
    auto averages = ema->averages();
    for (size_t i = 0; i < averages.size(); ++i)
      averages[i] = averages[i].to(parameters[i].scalar_type());
    averaged_ = std::make_unique<ScopedWeights>(parameters, averages);
  }
  model_.eval();
}

EvaluationScope::~EvaluationScope() { model_.train(was_training_); }

at::Tensor to_device(const at::Tensor& tokens, const at::Device& device) {
  if (tokens.device() == device) return tokens;
  return (tokens.is_cpu() ? tokens.pin_memory() : tokens).to(device, /*non_blocking=*/true);
}

std::optional<int64_t> memory_in_use(const at::Device& device) {
  if (device.is_cpu()) return resident_memory_bytes();
  const auto stats = at::accelerator::getDeviceStats(device.index());
  return stats.allocated_bytes[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)]
      .peak;
}

std::optional<double> mean_loss(const LossFunction& loss, const BatchFunction& batch, int64_t count,
                                const at::Device& device, const std::function<bool()>& stop) {
  at::Tensor sum = at::zeros({}, at::TensorOptions(device).dtype(at::kFloat));
  int64_t rows = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (stop()) return std::nullopt;
    const at::Tensor tokens = to_device(batch(i), device);
    sum.add_(loss(tokens).detach().to(at::kFloat), tokens.size(0));
    rows += tokens.size(0);
  }
  return unsigned_nan(sum.item<double>() / static_cast<double>(rows));
}

}  // namespace x_transformers
