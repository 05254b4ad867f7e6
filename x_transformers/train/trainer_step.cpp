#include "x_transformers/train/trainer_step.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace x_transformers {

std::vector<double> batch_shares(const std::vector<Batch>& micro_batches) {
  double total = 0;
  for (const Batch& batch : micro_batches) total += static_cast<double>(batch.targets);
  const bool are_equal = std::all_of(
      micro_batches.begin(), micro_batches.end(),
      [&](const Batch& batch) { return batch.targets == micro_batches.front().targets; });
  std::vector<double> shares;
  if (are_equal) return shares;
  for (const Batch& batch : micro_batches)
    shares.push_back(static_cast<double>(batch.targets) / total);
  return shares;
}

TrainStep::TrainStep(LossFunction loss, Optimizer& optimizer, Ema* ema, double grad_clip,
                     GradientReduction reduce, QkClip* qk_clip)
    : loss_(std::move(loss)),
      optimizer_(optimizer),
      ema_(ema),
      grad_clip_(grad_clip),
      reduce_(std::move(reduce)),
      qk_clip_(qk_clip),
      collector_(optimizer.parameters().tensors) {}

at::Tensor TrainStep::accumulate(const std::vector<Batch>& micro_batches, const ShareOf& share_of) {
  TORCH_CHECK(!micro_batches.empty(), "[TrainStep] expected at least one micro-batch");
  collector_.begin();
  if (qk_clip_ != nullptr) qk_clip_->begin();
  at::Tensor total;
  for (size_t i = 0; i < micro_batches.size(); ++i) {
    at::Tensor loss = loss_(micro_batches[i]);
    TORCH_CHECK(loss.dim() == 0, "[TrainStep] the loss must be a scalar, got shape ", loss.sizes());
    loss = share_of(loss, static_cast<int64_t>(i));
    if (!loss.defined()) continue;
    loss.backward();
    collector_.collect();
    const at::Tensor share = loss.detach().to(at::kFloat);
    total = total.defined() ? total + share : share;
  }
  return total;
}

StepResult TrainStep::update(at::Tensor loss) {
  const at::NoGradGuard no_grad;
  if (reduce_) reduce_(collector_.gradients(), loss);
  const at::Tensor norm = gradient_norm(collector_.gradients());
  const at::Tensor skipped = at::isfinite(loss + norm).logical_not().to(at::kFloat);
  const at::Tensor divisor = grad_clip_ > 0 ? clip_divisor(norm, grad_clip_) : at::Tensor();
  optimizer_.step(collector_.gradients(), divisor, skipped);
  if (qk_clip_ != nullptr) qk_clip_->apply(optimizer_, skipped);
  if (ema_ != nullptr) ema_->update();
  return {loss, norm, skipped};
}

StepResult TrainStep::operator()(const std::vector<Batch>& micro_batches) {
  const auto shares = batch_shares(micro_batches);
  const auto count = static_cast<double>(micro_batches.size());
  return update(accumulate(micro_batches, [&](const at::Tensor& loss, int64_t index) {
    if (shares.empty()) return count > 1 ? loss / count : loss;
    const double share = shares[static_cast<size_t>(index)];
    // A mean over no targets is no number, and so would be its product with 0.
    return share > 0 ? loss * share : at::Tensor();
  }));
}

StepResult TrainStep::with_shares(const std::vector<Batch>& micro_batches,
                                  const at::Tensor& shares) {
  return update(accumulate(
      micro_batches, [&](const at::Tensor& loss, int64_t index) { return loss * shares[index]; }));
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
