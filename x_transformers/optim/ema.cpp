#include "x_transformers/optim/ema.h"

#include <ATen/ATen.h>

#include "x_transformers/core/error.h"
#include "x_transformers/optim/state.h"

namespace x_transformers {

Ema::Ema(NamedTensors weights, double decay) : weights_(std::move(weights)), decay_(decay) {
  expect(decay > 0.0 && decay < 1.0, at("ema_decay"), decay, "a number between 0 and 1");
  const at::NoGradGuard no_grad;
  for (const at::Tensor& weight : weights_.tensors)
    sums_.push_back(at::zeros_like(weight, at::kFloat));
  const auto options =
      weights_.tensors.empty() ? at::TensorOptions() : weights_.tensors.front().options();
  count_ = at::zeros({}, options.dtype(at::kFloat).requires_grad(false));
}

void Ema::update() {
  const at::NoGradGuard no_grad;
  if (!sums_.empty()) at::_foreach_lerp_(sums_, weights_.tensors, 1.0 - decay_);
  count_.mul_(decay_).add_(1.0 - decay_);
}

std::vector<at::Tensor> Ema::averages() const {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> means;
  const bool is_empty = count_.item<float>() == 0.0F;
  if (!is_empty && !sums_.empty()) return at::_foreach_div(sums_, count_);
  for (const at::Tensor& weight : weights_.tensors) means.push_back(weight.detach().clone());
  return means;
}

std::map<std::string, at::Tensor> Ema::state_dict() const {
  std::map<std::string, at::Tensor> state{{"ema_count", count_}};
  for (size_t i = 0; i < sums_.size(); ++i) state["ema." + weights_.names[i]] = sums_[i];
  return state;
}

void Ema::load_state_dict(const std::map<std::string, at::Tensor>& state) {
  for (auto& [name, tensor] : state_dict()) copy_state(state, name, tensor);
}

}  // namespace x_transformers
