#include "x_transformers/train/trainer_step.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>

namespace x_transformers {

TrainStep::TrainStep(LossFunction loss, AdamW& optimizer, Ema* ema, double grad_clip)
    : loss_(std::move(loss)),
      optimizer_(optimizer),
      ema_(ema),
      grad_clip_(grad_clip),
      collector_(optimizer.parameters().tensors) {}

at::Tensor TrainStep::accumulate(const std::vector<at::Tensor>& micro_batches) {
  TORCH_CHECK(!micro_batches.empty(), "[TrainStep] expected at least one micro-batch");
  const auto count = static_cast<double>(micro_batches.size());
  collector_.begin();
  at::Tensor total;
  for (const at::Tensor& tokens : micro_batches) {
    at::Tensor loss = loss_(tokens);
    TORCH_CHECK(loss.dim() == 0, "[TrainStep] the loss must be a scalar, got shape ", loss.sizes());
    if (micro_batches.size() > 1) loss = loss / count;
    loss.backward();
    collector_.collect();
    const at::Tensor share = loss.detach().to(at::kFloat);
    total = total.defined() ? total + share : share;
  }
  return total;
}

StepResult TrainStep::operator()(const std::vector<at::Tensor>& micro_batches) {
  const at::Tensor loss = accumulate(micro_batches);
  const at::NoGradGuard no_grad;
  const at::Tensor norm = gradient_norm(collector_.gradients());
  const at::Tensor skipped = at::isfinite(loss + norm).logical_not().to(at::kFloat);
  const at::Tensor divisor = grad_clip_ > 0 ? clip_divisor(norm, grad_clip_) : at::Tensor();
  optimizer_.step(collector_.gradients(), divisor, skipped);
  if (ema_ != nullptr) ema_->update();
  return {loss, norm, skipped};
}

double unsigned_nan(double value) {
  return std::isnan(value) ? std::numeric_limits<double>::quiet_NaN() : value;
}

StepHistory::StepHistory(int64_t capacity, const at::Device& device)
    : results_(at::empty({capacity, 3}, at::TensorOptions(device).dtype(at::kFloat))) {}

void StepHistory::record(int64_t step, const StepResult& result) {
  const auto index = static_cast<int64_t>(steps_.size());
  TORCH_CHECK(index < results_.size(0), "[StepHistory] holds ", results_.size(0),
              " results, drain it before more");
  const at::NoGradGuard no_grad;
  results_[index].copy_(at::stack({result.loss, result.grad_norm, result.skipped}));
  steps_.push_back(step);
}

std::vector<StepRecord> StepHistory::drain() {
  std::vector<StepRecord> records;
  if (steps_.empty()) return records;
  const at::Tensor read = results_.narrow(0, 0, static_cast<int64_t>(steps_.size())).cpu();
  const auto values = read.accessor<float, 2>();
  for (int64_t i = 0; i < read.size(0); ++i) {
    records.push_back({steps_[static_cast<size_t>(i)], unsigned_nan(values[i][0]),
                       unsigned_nan(values[i][1]), values[i][2] != 0.0F});
  }
  steps_.clear();
  return records;
}

}  // namespace x_transformers
