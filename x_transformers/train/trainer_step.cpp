#include "x_transformers/train/trainer_step.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

namespace x_transformers {

int64_t count_targets(const std::vector<Batch>& micro_batches) {
  int64_t targets = 0;
  for (const Batch& batch : micro_batches) targets += batch.targets;
  return targets;
}

std::vector<double> batch_shares(const std::vector<Batch>& micro_batches) {
  const auto total = static_cast<double>(count_targets(micro_batches));
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
                     SumOverRanks sum, QkClip* qk_clip, Watch* watch)
    : loss_(std::move(loss)),
      optimizer_(optimizer),
      ema_(ema),
      grad_clip_(grad_clip),
      sum_(std::move(sum)),
      qk_clip_(qk_clip),
      watch_(watch),
      // Sums over ranks, and what masters do not stand beside, want all digits.
      collector_(optimizer.parameters().tensors,
                 optimizer.has_masters() && optimizer.takes_low_gradients() && !sum_) {}

at::Tensor TrainStep::accumulate(const std::vector<Batch>& micro_batches, const ShareOf& share_of) {
  TORCH_CHECK(!micro_batches.empty(), "[TrainStep] expected at least one micro-batch");
  collector_.begin();
  if (qk_clip_ != nullptr) qk_clip_->begin();
  if (watch_ != nullptr) watch_->begin();
  at::Tensor total;
  for (size_t i = 0; i < micro_batches.size(); ++i) {
    at::Tensor loss = [&] {
      std::optional<Probing> probing;
      if (watch_ != nullptr) probing.emplace(*watch_);
      return loss_(micro_batches[i]);
    }();
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

at::TensorOptions TrainStep::device_options(at::ScalarType dtype) const {
  return at::TensorOptions(optimizer_.parameters().tensors.front().device()).dtype(dtype);
}

void TrainStep::average(std::vector<at::Tensor>& gradients, at::Tensor& loss,
                        at::Tensor& targets) const {
  const auto& parameters = optimizer_.weights().tensors;
  if (!loss.defined()) loss = at::zeros({}, device_options(at::kFloat));
  for (size_t i = 0; i < gradients.size(); ++i) {
    if (!gradients[i].defined()) gradients[i] = at::zeros_like(parameters[i]);
  }
  targets = targets.clone();  // what comes in may be the input of a graph
  auto sums = gradients;
  sums.push_back(loss);
  at::_foreach_mul_(sums, targets.to(at::kFloat));
  sums.push_back(targets);
  sum_(sums);
  sums.pop_back();
  at::_foreach_div_(sums, targets.to(at::kFloat));
}

StepResult TrainStep::update(at::Tensor loss, at::Tensor targets) {
  const at::NoGradGuard no_grad;
  auto gradients = collector_.gradients();
  if (sum_) average(gradients, loss, targets);
  const at::Tensor watched = watch_ != nullptr ? watch_->measure(gradients) : at::Tensor();
  const at::Tensor norm = gradient_norm(gradients);
  const at::Tensor skipped = at::isfinite(loss + norm).logical_not().to(at::kFloat);
  const at::Tensor divisor = grad_clip_ > 0 ? clip_divisor(norm, grad_clip_) : at::Tensor();
  optimizer_.step(gradients, divisor, skipped);
  if (qk_clip_ != nullptr) qk_clip_->apply(optimizer_, skipped);
  if (ema_ != nullptr) ema_->update();
  return {loss, norm, skipped, targets, watched};
}

StepResult TrainStep::operator()(const std::vector<Batch>& micro_batches) {
  const auto targets = count_targets(micro_batches);
  const auto all = sum_ ? at::full({}, targets, device_options(at::kLong)) : at::Tensor();
  if (sum_ && targets == 0) {
    collector_.begin();
    return update({}, all);
  }
  const auto shares = batch_shares(micro_batches);
  const auto count = static_cast<double>(micro_batches.size());
  const auto loss = accumulate(micro_batches, [&](const at::Tensor& loss, int64_t index) {
    if (shares.empty()) return count > 1 ? loss / count : loss;
    const double share = shares[static_cast<size_t>(index)];
    // A mean over no targets is no number, and so would be its product with 0.
    return share > 0 ? loss * share : at::Tensor();
  });
  return update(loss, all);
}

StepResult TrainStep::with_weights(const std::vector<Batch>& micro_batches,
                                   const StepWeights& weights) {
  const auto count = static_cast<double>(micro_batches.size());
  const auto loss = accumulate(micro_batches, [&](const at::Tensor& loss, int64_t index) {
    if (weights.shares.defined()) return loss * weights.shares[index];
    return count > 1 ? loss / count : loss;
  });
  return update(loss, weights.targets);
}

double unsigned_nan(double value) {
  return std::isnan(value) ? std::numeric_limits<double>::quiet_NaN() : value;
}

StepHistory::StepHistory(int64_t capacity, const at::Device& device)
    : results_(at::empty({capacity, 3}, at::TensorOptions(device).dtype(at::kFloat))) {}

void StepHistory::record(int64_t step, const StepResult& result, int64_t targets) {
  const auto index = static_cast<int64_t>(steps_.size());
  TORCH_CHECK(index < results_.size(0), "[StepHistory] holds ", results_.size(0),
              " results, drain it before more");
  const at::NoGradGuard no_grad;
  results_[index].copy_(at::stack({result.loss, result.grad_norm, result.skipped}));
  if (result.targets.defined()) {
    if (!targets_of_ranks_.defined())
      targets_of_ranks_ = at::empty({results_.size(0)}, result.targets.options());
    targets_of_ranks_[index].copy_(result.targets);
  }
  steps_.push_back(step);
  targets_.push_back(targets);
}

std::vector<StepRecord> StepHistory::drain() {
  std::vector<StepRecord> records;
  if (steps_.empty()) return records;
  const auto count = static_cast<int64_t>(steps_.size());
  const at::Tensor read = results_.narrow(0, 0, count).cpu();
  const auto values = read.accessor<float, 2>();
  const at::Tensor targets = targets_of_ranks_.defined()
                                 ? targets_of_ranks_.narrow(0, 0, count).cpu()
                                 : at::tensor(targets_, at::kLong);
  for (int64_t i = 0; i < count; ++i) {
    records.push_back({steps_[static_cast<size_t>(i)], unsigned_nan(values[i][0]),
                       unsigned_nan(values[i][1]), values[i][2] != 0.0F,
                       targets[i].item<int64_t>()});
  }
  steps_.clear();
  targets_.clear();
  return records;
}

}  // namespace x_transformers
