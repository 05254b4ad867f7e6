#include "x_transformers/optim/gradients.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>

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

at::Tensor gradient_norm(const std::vector<at::Tensor>& gradients, const at::Device& device,
                         const SumOverRanks& sum) {
  const at::NoGradGuard no_grad;
  // One number of each gradient, 0 of those that others have, so that the norm is the same to the
  // bit, whoever has which.
  const auto none = at::zeros({}, at::TensorOptions(device).dtype(at::kFloat));
  const auto defined = defined_ones(gradients);
  const auto own = defined.empty() ? defined : at::_foreach_norm(defined, 2, at::kFloat);
  std::vector<at::Tensor> each;
  size_t next = 0;
  for (const auto& gradient : gradients) each.push_back(gradient.defined() ? own[next++] : none);
  const auto norms = at::stack(each);
  sum({norms});
  return at::linalg_vector_norm(norms);
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

GradientCollector::GradientCollector(std::vector<at::Tensor> parameters, bool keeps_low)
    : parameters_(std::move(parameters)), gradients_(parameters_.size()), keeps_low_(keeps_low) {
  const auto is_low = [](const at::Tensor& parameter) {
    return parameter.scalar_type() != at::kFloat && parameter.scalar_type() != at::kDouble;
  };
  const auto low = std::count_if(parameters_.begin(), parameters_.end(), is_low);
  is_low_precision_ = low > 0;
  TORCH_CHECK(low == 0 || low == static_cast<int64_t>(parameters_.size()),
              "[GradientCollector] parameters must share one type");
}

void GradientCollector::begin() {
  passes_ = 0;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    parameters_[i].mutable_grad().reset();
    gradients_[i].reset();
  }
}

void GradientCollector::collect() {
  ++passes_;
  if (is_low_precision_ && (!keeps_low_ || passes_ > 1)) {
    std::vector<size_t> all(parameters_.size());
    std::iota(all.begin(), all.end(), size_t{0});
    return add_in_fp32(all);
  }
  for (size_t i = 0; i < parameters_.size(); ++i) {
    gradients_[i] = parameters_[i].grad();
    if (is_low_precision_) parameters_[i].mutable_grad().reset();
  }
}

void GradientCollector::take(const std::vector<size_t>& parameters) {
  TORCH_CHECK(!keeps_low_, "[GradientCollector] takes some gradients only in all digits");
  if (is_low_precision_) return add_in_fp32(parameters);
  for (const size_t i : parameters) gradients_[i] = parameters_[i].grad();
}

const at::Tensor& GradientCollector::defined(size_t parameter) {
  auto& gradient = gradients_[parameter];
  if (!gradient.defined()) {
    const auto type = is_low_precision_ ? at::kFloat : parameters_[parameter].scalar_type();
    gradient = at::zeros_like(parameters_[parameter], type);
  }
  return gradient;
}

void GradientCollector::add_in_fp32(const std::vector<size_t>& parameters) {
  const at::NoGradGuard no_grad;
  if (keeps_low_ && passes_ == 2) {
    for (at::Tensor& gradient : gradients_) {
      if (gradient.defined()) gradient = gradient.to(at::kFloat);
    }
  }
  std::vector<at::Tensor> fresh, fresh_from, summed, summed_from;
  for (const size_t i : parameters) {
    at::Tensor& gradient = parameters_[i].mutable_grad();
    if (!gradient.defined()) continue;
    const bool is_first = !gradients_[i].defined();
    if (is_first) gradients_[i] = at::empty_like(parameters_[i], at::kFloat);
    (is_first ? fresh : summed).push_back(gradients_[i]);
    (is_first ? fresh_from : summed_from).push_back(gradient);
    gradient.reset();
  }
  if (!fresh.empty()) at::_foreach_copy_(fresh, fresh_from);
  if (!summed.empty()) at::_foreach_add_(summed, summed_from);
}

}  // namespace x_transformers
