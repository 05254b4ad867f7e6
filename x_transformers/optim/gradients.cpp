#include "x_transformers/optim/gradients.h"

#include <ATen/ATen.h>

namespace x_transformers {
namespace {

std::vector<at::Tensor> defined_ones(const std::vector<at::Tensor>& tensors) {
  std::vector<at::Tensor> defined;
  for (const at::Tensor& tensor : tensors) {
    if (tensor.defined()) defined.push_back(tensor);
  }
  return defined;
}

}  // namespace

at::Tensor gradient_norm(const std::vector<at::Tensor>& gradients) {
  const auto defined = defined_ones(gradients);
  if (defined.empty()) return at::zeros({}, at::kFloat);
  const at::NoGradGuard no_grad;
  return at::linalg_vector_norm(at::stack(at::_foreach_norm(defined, 2, at::kFloat)));
}

at::Tensor clip_divisor(const at::Tensor& norm, double max_norm) {
  return norm.add(1e-6).div(max_norm).clamp_min(1.0);
}

at::Tensor clip_grad_norm(const std::vector<at::Tensor>& gradients, double max_norm) {
  const at::NoGradGuard no_grad;
  const at::Tensor norm = gradient_norm(gradients);
  const auto defined = defined_ones(gradients);
  if (!defined.empty()) at::_foreach_mul_(defined, clip_divisor(norm, max_norm).reciprocal());
  return norm;
}

GradientCollector::GradientCollector(std::vector<at::Tensor> parameters)
    : parameters_(std::move(parameters)), gradients_(parameters_.size()) {
  for (const at::Tensor& parameter : parameters_) {
    if (parameter.scalar_type() == at::kFloat || parameter.scalar_type() == at::kDouble) continue;
    buffers_.push_back(at::empty_like(parameter, at::kFloat));
  }
  TORCH_CHECK(buffers_.empty() || buffers_.size() == parameters_.size(),
              "[GradientCollector] parameters must share one type");
}

void GradientCollector::begin() {
  for (size_t i = 0; i < parameters_.size(); ++i) {
    parameters_[i].mutable_grad().reset();
    gradients_[i].reset();
  }
}

void GradientCollector::collect() {
  if (!buffers_.empty()) return add_to_buffers();
  for (size_t i = 0; i < parameters_.size(); ++i) gradients_[i] = parameters_[i].grad();
}

void GradientCollector::add_to_buffers() {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> fresh, fresh_from, summed, summed_from;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    at::Tensor& gradient = parameters_[i].mutable_grad();
    if (!gradient.defined()) continue;
    const bool is_first = !gradients_[i].defined();
    (is_first ? fresh : summed).push_back(buffers_[i]);
    (is_first ? fresh_from : summed_from).push_back(gradient);
    gradients_[i] = buffers_[i];
    gradient.reset();
  }
  if (!fresh.empty()) at::_foreach_copy_(fresh, fresh_from);
  if (!summed.empty()) at::_foreach_add_(summed, summed_from);
}

}  // namespace x_transformers
