#include "x_transformers/optim/adamw.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>

#include "x_transformers/core/error.h"
#include "x_transformers/optim/adamw_update.h"
#include "x_transformers/optim/state.h"

namespace x_transformers {

/// The lists that one update takes.
struct AdamW::Group {
  std::vector<at::Tensor> weights, gradients, exp_avgs, exp_avg_sqs, steps;
  std::vector<at::Tensor> copies;  ///< of masters: the parameters
};

void validate(const AdamWOptions& options) {
  const auto check = [](const char* name, double value, bool holds, const char* expected) {
    expect(holds, at(name), value, "{}", expected);
  };
  const auto& o = options;
  check("learning_rate", o.learning_rate, o.learning_rate > 0, "a number above 0");
  check("beta1", o.beta1, o.beta1 >= 0 && o.beta1 < 1, "a number from 0 to below 1");
  check("beta2", o.beta2, o.beta2 >= 0 && o.beta2 < 1, "a number from 0 to below 1");
  check("eps", o.eps, o.eps >= 0, "a number of at least 0");
  check("weight_decay", o.weight_decay, o.weight_decay >= 0, "a number of at least 0");
}

AdamW::AdamW(NamedTensors parameters, AdamWOptions options, std::vector<at::Tensor> masters)
    : Optimizer(std::move(parameters), options.learning_rate, std::move(masters)),
      options_(options) {
  validate(options_);
  const at::NoGradGuard no_grad;
  const auto scalar = parameters_.tensors.front().options().dtype(at::kFloat).requires_grad(false);
  exp_avgs_.resize(weights_.tensors.size());
  exp_avg_sqs_.resize(weights_.tensors.size());
  for (size_t i = 0; i < weights_.tensors.size(); ++i) steps_.push_back(at::zeros({}, scalar));
}

void AdamW::make_moments(size_t i) {
  if (exp_avgs_[i].defined()) return;
  exp_avgs_[i] = at::zeros_like(weights_.tensors[i]);
  exp_avg_sqs_[i] = at::zeros_like(weights_.tensors[i]);
}

int64_t AdamW::count_moments() const {
  return std::count_if(exp_avgs_.begin(), exp_avgs_.end(),
                       [](const at::Tensor& moment) { return moment.defined(); });
}

void AdamW::step(const std::vector<at::Tensor>& gradients, const at::Tensor& grad_scale,
                 const at::Tensor& found_inf) {
  TORCH_CHECK(gradients.size() == weights_.tensors.size(), "[AdamW] expected ",
              weights_.tensors.size(), " gradients, got ", gradients.size());
  const at::NoGradGuard no_grad;
  Group decayed, undecayed;
  for (size_t i = 0; i < gradients.size(); ++i) {
    if (!gradients[i].defined()) continue;
    make_moments(i);
    Group& group = weights_.tensors[i].dim() >= 2 ? decayed : undecayed;
    group.weights.push_back(weights_.tensors[i]);
    group.gradients.push_back(gradients[i]);
    group.exp_avgs.push_back(exp_avgs_[i]);
    group.exp_avg_sqs.push_back(exp_avg_sqs_[i]);
    group.steps.push_back(steps_[i]);
    if (has_masters_) group.copies.push_back(parameters_.tensors[i]);
  }
  update(decayed, options_.weight_decay, grad_scale, found_inf);
  update(undecayed, 0.0, grad_scale, found_inf);
}

void AdamW::update(const Group& group, double weight_decay, const at::Tensor& grad_scale,
                   const at::Tensor& found_inf) {
  if (group.weights.empty()) return;
  if (found_inf.defined()) {
    at::_foreach_add_(group.steps, 1.0 - found_inf);
  } else {
    at::_foreach_add_(group.steps, 1.0);
  }
  adamw_update({group.weights, group.gradients, group.exp_avgs, group.exp_avg_sqs, group.steps,
                learning_rate_, device_learning_rate_, options_.beta1, options_.beta2, options_.eps,
                weight_decay, grad_scale, found_inf, group.copies});
}

std::map<std::string, at::Tensor> AdamW::state_dict() const {
  std::map<std::string, at::Tensor> state;
  for (size_t i = 0; i < weights_.names.size(); ++i) {
    state["step." + weights_.names[i]] = steps_[i];
    if (!exp_avgs_[i].defined()) continue;
    state["exp_avg." + weights_.names[i]] = exp_avgs_[i];
    state["exp_avg_sq." + weights_.names[i]] = exp_avg_sqs_[i];
  }
  return state;
}

void AdamW::load_state_dict(const std::map<std::string, at::Tensor>& state) {
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < weights_.names.size(); ++i) {
    const auto& name = weights_.names[i];
    copy_state(state, "step." + name, steps_[i]);
    if (steps_[i].item<float>() == 0 && !state.contains("exp_avg." + name)) {
      exp_avgs_[i].reset();
      exp_avg_sqs_[i].reset();
      continue;
    }
    make_moments(i);
    copy_state(state, "exp_avg." + name, exp_avgs_[i]);
    copy_state(state, "exp_avg_sq." + name, exp_avg_sqs_[i]);
  }
}

}  // namespace x_transformers
