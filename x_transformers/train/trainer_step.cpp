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
                     SumOverRanks sum, QkClip* qk_clip, Watch* watch, StartSumOverRanks start_sum)
    : loss_(std::move(loss)),
      optimizer_(optimizer),
      ema_(ema),
      grad_clip_(grad_clip),
      sum_(std::move(sum)),
      qk_clip_(qk_clip),
      watch_(watch),
      // Sums over ranks, and what masters do not stand beside, want all digits.
      collector_(optimizer.parameters().tensors,
                 optimizer.has_masters() && optimizer.takes_low_gradients() && !sum_) {
  if (!sum_) return;
  if (!start_sum) start_sum = as_started(sum_);
  gradient_sum_ = std::make_unique<GradientSum>(optimizer.parameters().tensors, collector_,
                                                std::move(start_sum));
}

void TrainStep::begin() {
  shards_ != nullptr ? shards_->begin_step() : collector_.begin();
  if (qk_clip_ != nullptr) qk_clip_->begin();
  if (watch_ != nullptr) watch_->begin();
}

TrainStep::Targets TrainStep::count_all(const at::Tensor& own) const {
  if (!sum_) return {};
  Targets targets{own, own.clone(), {}};  // what comes in may be the input of a graph
  sum_({targets.all});
  targets.share = own.to(at::kFloat) / targets.all.to(at::kFloat);
  return targets;
}

at::Tensor TrainStep::loss_of(const Batch& batch) {
  std::optional<Probing> probing;
  std::optional<KeepingBy> keeping;
  if (watch_ != nullptr) probing.emplace(*watch_);
  if (shards_ != nullptr) {
    shards_->begin_forward();
    keeping.emplace(shards_);
  }
  auto loss = loss_(batch);
  TORCH_CHECK(loss.dim() == 0, "[TrainStep] the loss must be a scalar, got shape ", loss.sizes());
  return loss;
}

void TrainStep::backward(const at::Tensor& loss, bool is_last) {
  if (shards_ != nullptr) return shards_->backward(loss);
  if (!loss.defined()) return;
  if (sum_ && is_last) gradient_sum_->begin();
  loss.backward();
  collector_.collect();
}

at::Tensor TrainStep::accumulate(const std::vector<Batch>& micro_batches, size_t last,
                                 const Targets& targets, const ShareOf& share_of) {
  TORCH_CHECK(!micro_batches.empty(), "[TrainStep] expected at least one micro-batch");
  at::Tensor total;
  for (size_t i = 0; i < micro_batches.size(); ++i) {
    const at::Tensor loss =
        share_of(loss_of(micro_batches[i]), static_cast<int64_t>(i));  // undefined: none
    backward(sum_ && loss.defined() ? loss * targets.share : loss, i == last);
    if (!loss.defined()) continue;
    const at::Tensor share = loss.detach().to(at::kFloat);
    total = total.defined() ? total + share : share;
  }
  return total;
}

at::TensorOptions TrainStep::device_options(at::ScalarType dtype) const {
  return at::TensorOptions(optimizer_.parameters().tensors.front().device()).dtype(dtype);
}

StepResult TrainStep::update(at::Tensor loss, const Targets& targets) {
  const at::NoGradGuard no_grad;
  at::Tensor own_loss;
  if (sum_) {
    own_loss = loss.defined() ? loss : at::zeros({}, device_options(at::kFloat));
    loss = own_loss * targets.share;
    shards_ != nullptr ? shards_->finish({loss}) : gradient_sum_->finish({loss});
  }
  const auto& gradients = shards_ != nullptr ? shards_->gradients() : collector_.gradients();
  const at::Tensor watched = watch_ != nullptr ? watch_->measure(gradients) : at::Tensor();
  const at::Tensor norm = shards_ != nullptr
                              ? gradient_norm(gradients, device_options(at::kFloat).device(), sum_)
                              : gradient_norm(gradients);
  const at::Tensor skipped = at::isfinite(loss + norm).logical_not().to(at::kFloat);
  const at::Tensor divisor = grad_clip_ > 0 ? clip_divisor(norm, grad_clip_) : at::Tensor();
  before_update_();
  optimizer_.step(gradients, divisor, skipped);
  if (qk_clip_ != nullptr) qk_clip_->apply(optimizer_, skipped);
  if (ema_ != nullptr) ema_->update();
  return {loss, norm, skipped, targets.all, own_loss, watched};
}

StepResult TrainStep::operator()(const std::vector<Batch>& micro_batches) {
  const auto own = count_targets(micro_batches);
  begin();
  const auto targets =
      count_all(sum_ ? at::full({}, own, device_options(at::kLong)) : at::Tensor());
  if (sum_ && own == 0) {
    // Where the model is shared out the others need this rank's part of it all the same.
    const auto none = [](const at::Tensor&, int64_t) { return at::Tensor(); };
    if (shards_ != nullptr) return update(accumulate(micro_batches, 0, targets, none), targets);
    gradient_sum_->begin();
    return update({}, targets);
  }
  const auto shares = batch_shares(micro_batches);
  const auto count = static_cast<double>(micro_batches.size());
  size_t last = micro_batches.size() - 1;
  while (last > 0 && !shares.empty() && shares[last] == 0) --last;
  const auto loss =
      accumulate(micro_batches, last, targets, [&](const at::Tensor& loss, int64_t index) {
        if (shares.empty()) return count > 1 ? loss / count : loss;
        const double share = shares[static_cast<size_t>(index)];
        // A mean over no targets is no number, and so would be its
        // product with 0.
        return share > 0 ? loss * share : at::Tensor();
      });
  return update(loss, targets);
}

StepResult TrainStep::with_weights(const std::vector<Batch>& micro_batches,
                                   const StepWeights& weights) {
  const auto count = static_cast<double>(micro_batches.size());
  begin();
  const auto targets = count_all(weights.targets);
  const auto loss = accumulate(micro_batches, micro_batches.size() - 1, targets,
                               [&](const at::Tensor& loss, int64_t index) {
                                 if (weights.shares.defined()) return loss * weights.shares[index];
                                 return count > 1 ? loss / count : loss;
                               });
  return update(loss, targets);
}

double unsigned_nan(double value) {
  return std::isnan(value) ? std::numeric_limits<double>::quiet_NaN() : value;
}

StepHistory::StepHistory(int64_t capacity, const at::Device& device)
    : results_(at::empty({capacity, 4}, at::TensorOptions(device).dtype(at::kFloat))) {}

void StepHistory::record(int64_t step, const StepResult& result, int64_t targets) {
  const auto index = static_cast<int64_t>(steps_.size());
  TORCH_CHECK(index < results_.size(0), "[StepHistory] holds ", results_.size(0),
              " results, drain it before more");
  const at::NoGradGuard no_grad;
  const auto& own_loss = result.own_loss.defined() ? result.own_loss : result.loss;
  results_[index].copy_(at::stack({result.loss, result.grad_norm, result.skipped, own_loss}));
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
                       unsigned_nan(values[i][1]), values[i][2] != 0.0F, targets[i].item<int64_t>(),
                       unsigned_nan(values[i][3])});
  }
  steps_.clear();
  targets_.clear();
  return records;
}

}  // namespace x_transformers
