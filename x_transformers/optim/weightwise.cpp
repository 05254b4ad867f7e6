#include "x_transformers/optim/weightwise.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "x_transformers/optim/state.h"

namespace x_transformers {

at::Tensor WeightwiseOptimizer::Step::unless_skipped(const at::Tensor& value,
                                                     const at::Tensor& otherwise) const {
  return skipped.defined() ? at::where(skipped, otherwise, value) : value;
}

at::Tensor WeightwiseOptimizer::Step::decay_factor(double weight_decay) const {
  return 1.0 - learning_rate * weight_decay;
}

void WeightwiseOptimizer::reserve_state() {
  if (!steps_.empty()) return;
  moments_.resize(weights_.tensors.size());
  const auto scalar = weights_.tensors.front().options().dtype(at::kFloat).requires_grad(false);
  for (size_t i = 0; i < weights_.tensors.size(); ++i) steps_.push_back(at::zeros({}, scalar));
}

void WeightwiseOptimizer::make_moments(size_t i) {
  if (!moments_[i].empty()) return;
  const auto options = weights_.tensors[i].options().requires_grad(false);
  for (const auto& moment : moments_of(weights_.tensors[i]))
    moments_[i].push_back(at::zeros(moment.sizes, options));
}

int64_t WeightwiseOptimizer::count_moments() const {
  return std::count_if(moments_.begin(), moments_.end(),
                       [](const auto& moments) { return !moments.empty(); });
}

void WeightwiseOptimizer::step(const std::vector<at::Tensor>& gradients,
                               const at::Tensor& grad_scale, const at::Tensor& found_inf) {
  TORCH_CHECK(gradients.size() == weights_.tensors.size(), "[Optimizer] expected ",
              weights_.tensors.size(), " gradients, got ", gradients.size());
  const at::NoGradGuard no_grad;
  reserve_state();
  Entries entries;
  std::vector<at::Tensor> scaled, counts, masters, parameters;
  for (size_t i = 0; i < gradients.size(); ++i) {
    if (!gradients[i].defined()) continue;
    make_moments(i);
    entries.push_back({weights_.tensors[i].detach(), gradients[i], steps_[i], moments_[i]});
    scaled.push_back(gradients[i]);
    masters.push_back(weights_.tensors[i]);
    parameters.push_back(parameters_.tensors[i]);
    counts.push_back(steps_[i]);
  }
  if (entries.empty()) return;
  Step step;
  if (device_learning_rate_.defined()) {
    step.learning_rate = device_learning_rate_;
  } else {
    // On the host it costs nothing to look.
    if (found_inf.defined() && found_inf.item<float>() != 0) return;
    step.learning_rate = at::scalar_tensor(learning_rate_, at::kDouble);
  }
  if (device_learning_rate_.defined() && found_inf.defined()) {
    step.skipped = found_inf != 0;
    step.learning_rate = step.learning_rate * (1.0 - found_inf);
    at::_foreach_add_(counts, 1.0 - found_inf);
  } else {
    at::_foreach_add_(counts, 1.0);
  }
  if (grad_scale.defined()) at::_foreach_div_(scaled, grad_scale);
  update(entries, step);
  if (has_masters_) at::_foreach_copy_(parameters, masters);
}

std::map<std::string, at::Tensor> WeightwiseOptimizer::state_dict() const {
  std::map<std::string, at::Tensor> state;
  for (size_t i = 0; i < weights_.names.size(); ++i) {
    const auto& name = weights_.names[i];
    state["step." + name] =
        steps_.empty() ? at::zeros({}, weights_.tensors[i].options().dtype(at::kFloat)) : steps_[i];
    if (moments_.empty() || moments_[i].empty()) continue;
    const auto moments = moments_of(weights_.tensors[i]);
    for (size_t j = 0; j < moments.size(); ++j)
      state[moments[j].name + "." + name] = moments_[i][j];
  }
  return state;
}

void WeightwiseOptimizer::load_state_dict(const std::map<std::string, at::Tensor>& state) {
  const at::NoGradGuard no_grad;
  reserve_state();
  for (size_t i = 0; i < weights_.names.size(); ++i) {
    const auto& name = weights_.names[i];
    copy_state(state, "step." + name, steps_[i]);
    const auto moments = moments_of(weights_.tensors[i]);
    const bool has_any = std::any_of(moments.begin(), moments.end(), [&](const Moment& moment) {
      return state.contains(moment.name + "." + name);
    });
    if (steps_[i].item<float>() == 0 && !has_any) {
      moments_[i].clear();
      continue;
    }
    make_moments(i);
    for (size_t j = 0; j < moments.size(); ++j)
      copy_state(state, moments[j].name + "." + name, moments_[i][j]);
  }
}

void decay_matrices(const std::vector<at::Tensor>& weights, const at::Tensor& factor) {
  std::vector<at::Tensor> decayed;
  for (const at::Tensor& weight : weights) {
    if (weight.dim() >= 2) decayed.push_back(weight);
  }
  if (!decayed.empty()) at::_foreach_mul_(decayed, factor);
}

}  // namespace x_transformers
