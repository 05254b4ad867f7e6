#include "x_transformers/optim/lion.h"

#include <ATen/ATen.h>

#include "x_transformers/core/rules.h"

namespace x_transformers {

void validate(const LionOptions& options) {
  require_fraction(options.beta1, "beta1");
  require_fraction(options.beta2, "beta2");
}

Lion::Lion(NamedTensors parameters, double learning_rate, double weight_decay, LionOptions options,
           std::vector<at::Tensor> masters)
    : WeightwiseOptimizer(std::move(parameters), learning_rate, std::move(masters)),
      options_(options),
      weight_decay_(weight_decay) {
  validate(options_);
}

std::vector<Lion::Moment> Lion::moments_of(const at::Tensor& weight) const {
  return {{"exp_avg", weight.sizes().vec()}};
}

void Lion::update(const Entries& entries, const Step& step) {
  std::vector<at::Tensor> weights, gradients, averages;
  for (const Entry& entry : entries) {
    weights.push_back(entry.weight);
    averages.push_back(entry.moments[0]);
    gradients.push_back(step.unless_skipped(entry.gradient, entry.moments[0]));
  }
  decay_matrices(weights, step.decay_factor(weight_decay_));
  auto directions = at::_foreach_lerp(averages, gradients, 1.0 - options_.beta1);
  at::_foreach_sign_(directions);
  at::_foreach_mul_(directions, step.learning_rate);
  at::_foreach_sub_(weights, directions);
  at::_foreach_lerp_(averages, gradients, 1.0 - options_.beta2);
}

}  // namespace x_transformers
