#include "x_transformers/optim/optimizer.h"

#include <ATen/ATen.h>

namespace x_transformers {

Optimizer::Optimizer(NamedTensors parameters, double learning_rate, std::vector<at::Tensor> masters)
    : parameters_(std::move(parameters)),
      has_masters_(!masters.empty()),
      learning_rate_(learning_rate) {
  TORCH_CHECK(!parameters_.tensors.empty(), "[Optimizer] needs at least one parameter");
  TORCH_CHECK(!has_masters_ || masters.size() == parameters_.tensors.size(),
              "[Optimizer] expected ", parameters_.tensors.size(), " masters, got ",
              masters.size());
  weights_ = has_masters_ ? NamedTensors{parameters_.names, std::move(masters)} : parameters_;
  const auto scalar = parameters_.tensors.front().options().dtype(at::kFloat).requires_grad(false);
  if (scalar.device().is_cuda()) device_learning_rate_ = at::full({}, learning_rate_, scalar);
}

void Optimizer::set_learning_rate(double learning_rate) {
  learning_rate_ = learning_rate;
  if (device_learning_rate_.defined()) device_learning_rate_.fill_(learning_rate);
}

void Optimizer::write_parameters() {
  const at::NoGradGuard no_grad;
  if (!has_masters_) return;
  const auto parameters = kept_parameters();
  if (!parameters.tensors.empty()) at::_foreach_copy_(parameters.tensors, kept_weights().tensors);
}

NamedTensors Optimizer::kept_of(const NamedTensors& tensors) const {
  NamedTensors kept;
  for (size_t i = 0; i < tensors.tensors.size(); ++i) {
    if (!keeps(i)) continue;
    kept.names.push_back(tensors.names[i]);
    kept.tensors.push_back(tensors.tensors[i]);
  }
  return kept;
}

}  // namespace x_transformers
