#include "x_transformers/optim/adamw_update.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <optional>

#include "x_transformers/ops/cuda_launchers.h"
#include "x_transformers/ops/cuda_tensors.h"
#include "x_transformers/ops/fast_path.h"
#include "x_transformers/ops/kernel_tensors.h"

namespace x_transformers {
namespace {

/// ATen's kernel walks the memory of the four tensors of a weight side by side.
bool lie_alike(const at::Tensor& weight, const at::Tensor& other) {
  return other.sizes() == weight.sizes() && other.strides() == weight.strides() &&
         other.device() == weight.device();
}

bool is_of_one_type(const std::vector<at::Tensor>& tensors) {
  return std::all_of(tensors.begin(), tensors.end(), [&](const at::Tensor& tensor) {
    return tensor.scalar_type() == tensors.front().scalar_type();
  });
}

/// A kernel of ours, which takes gradients of any type, and writes the copies in the same pass.
Reasons our_cuda_reasons(const AdamWUpdate& update) {
  if (update.weights.empty()) return Reasons("there are no weights");
  auto reasons = cuda_kernel_reasons(update.weights.front(), "the first weight");
  if (!update.weights.front().is_cuda()) return reasons;
  reasons.add_if(!update.device_learning_rate.defined(), "the learning rate is on the host");
  reasons.add_if(!is_of_one_type(update.gradients) || !is_of_one_type(update.copies),
                 "gradients or copies have several types");
  for (size_t i = 0; i < update.weights.size(); ++i) {
    const auto &weight = update.weights[i], &gradient = update.gradients[i];
    const auto is_float = [&](const at::Tensor& t) { return t.scalar_type() == at::kFloat; };
    bool fits = is_float(weight) && is_float(update.exp_avgs[i]) &&
                is_float(update.exp_avg_sqs[i]) && weight.is_non_overlapping_and_dense() &&
                is_plain_on_cuda(weight) && is_plain_on_cuda(gradient) &&
                lie_alike(weight, gradient) && lie_alike(weight, update.exp_avgs[i]) &&
                lie_alike(weight, update.exp_avg_sqs[i]);
    if (!update.copies.empty())
      fits = fits && is_plain_on_cuda(update.copies[i]) && lie_alike(weight, update.copies[i]);
    if (fits) continue;
    reasons.add("a weight is not dense float32, or what belongs to it lies in another way");
    break;
  }
  return reasons;
}

void our_cuda_update(const AdamWUpdate& u) {
  std::vector<kernels::AdamWWeight> weights(u.weights.size());
  for (size_t i = 0; i < weights.size(); ++i) {
    auto& w = weights[i];
    w.weight = u.weights[i].mutable_data_ptr<float>();
    w.exp_avg = u.exp_avgs[i].mutable_data_ptr<float>();
    w.exp_avg_sq = u.exp_avg_sqs[i].mutable_data_ptr<float>();
    w.gradient = u.gradients[i].const_data_ptr();
    w.copy = u.copies.empty() ? nullptr : u.copies[i].mutable_data_ptr();
    w.step = u.steps[i].const_data_ptr<float>();
    w.size = u.weights[i].numel();
  }
  kernels::AdamWStep step;
  step.weights = weights.data();
  step.count = static_cast<int64_t>(weights.size());
  step.gradient = element_of(u.gradients.front());
  if (!u.copies.empty()) step.copy = element_of(u.copies.front());
  step.learning_rate = u.device_learning_rate.const_data_ptr<float>();
  step.beta1 = u.beta1;
  step.beta2 = u.beta2;
  step.eps = u.eps;
  step.weight_decay = u.weight_decay;
  step.divisor = data_or_null(u.grad_scale);
  step.skipped = data_or_null(u.found_inf);
  our_cuda_kernels().launchers->adamw(step, u.weights.front().device().index());
}

/// The gradients in the types of their weights.
std::vector<at::Tensor> wide_gradients(const AdamWUpdate& u) {
  std::vector<at::Tensor> wide;
  for (size_t i = 0; i < u.gradients.size(); ++i)
    wide.push_back(u.gradients[i].to(u.weights[i].scalar_type()));
  return wide;
}

void write_copies(const AdamWUpdate& u) {
  if (!u.copies.empty()) at::_foreach_copy_(u.copies, u.weights);
}

Reasons fused_reasons(const AdamWUpdate& update) {
  Reasons reasons;
  if (update.weights.empty()) return reasons;
  const auto& first = update.weights.front();
  reasons.add_if(!first.is_cpu() && !first.is_cuda(), "the weights are not on the CPU or CUDA");
  for (size_t i = 0; i < update.weights.size(); ++i) {
    const auto& weight = update.weights[i];
    const bool is_plain = weight.layout() == at::kStrided && weight.is_floating_point() &&
                          weight.scalar_type() == first.scalar_type() &&
                          weight.device() == first.device() &&
                          weight.is_non_overlapping_and_dense();
    const bool are_alike = lie_alike(weight, update.gradients[i]) &&
                           lie_alike(weight, update.exp_avgs[i]) &&
                           lie_alike(weight, update.exp_avg_sqs[i]) &&
                           update.exp_avgs[i].scalar_type() == weight.scalar_type() &&
                           update.exp_avg_sqs[i].scalar_type() == weight.scalar_type();
    if (is_plain && are_alike) continue;
    reasons.add_if(!is_plain, "the weights are not dense floats of one type");
    reasons.add_if(!are_alike, "gradients or moments lie in memory in another way than weights");
    break;
  }
  return reasons;
}

/// ATen's, all weights in one call.
void fused_update(const AdamWUpdate& u) {
  if (u.weights.empty()) return;
  const auto gradients = wide_gradients(u);
  const auto optional = [](const at::Tensor& tensor) {
    return tensor.defined() ? std::optional<at::Tensor>(tensor) : std::nullopt;
  };
  const auto fused = [&](const auto& learning_rate) {
    at::_fused_adamw_(u.weights, gradients, u.exp_avgs, u.exp_avg_sqs, {}, u.steps, learning_rate,
                      u.beta1, u.beta2, u.weight_decay, u.eps, /*amsgrad=*/false,
                      /*maximize=*/false, optional(u.grad_scale), optional(u.found_inf));
  };
  u.device_learning_rate.defined() ? fused(u.device_learning_rate) : fused(u.learning_rate);
  write_copies(u);
}

/// The formula, one weight after the other.
void update_weight(const AdamWUpdate& u, size_t i) {
  const auto dtype = u.weights[i].scalar_type();
  const auto scalar = [&](const at::Tensor& t) { return t.to(dtype); };
  const auto learning_rate = u.device_learning_rate.defined()
                                 ? scalar(u.device_learning_rate)
                                 : at::full({}, u.learning_rate, u.weights[i].options());
  const auto step = scalar(u.steps[i]);
  auto gradient = scalar(u.gradients[i]);
  if (u.grad_scale.defined()) gradient = gradient / scalar(u.grad_scale);
  const auto mean = u.exp_avgs[i] * u.beta1 + gradient * (1 - u.beta1);
  const auto square = u.exp_avg_sqs[i] * u.beta2 + gradient.square() * (1 - u.beta2);
  const auto corrected_mean = mean / (1 - at::pow(u.beta1, step));
  const auto corrected_square = square / (1 - at::pow(u.beta2, step));
  const auto weight = u.weights[i] * (1 - learning_rate * u.weight_decay) -
                      learning_rate * corrected_mean / (corrected_square.sqrt() + u.eps);
  const auto put = [&](const at::Tensor& target, const at::Tensor& value) {
    at::Tensor(target).copy_(u.found_inf.defined() ? at::where(u.found_inf.eq(1), target, value)
                                                   : value);
  };
  put(u.weights[i], weight);
  put(u.exp_avgs[i], mean);
  put(u.exp_avg_sqs[i], square);
}

void reference_update(const AdamWUpdate& update) {
  for (size_t i = 0; i < update.weights.size(); ++i) update_weight(update, i);
  write_copies(update);
}

const Engines<AdamWUpdate, void>& engines() {
  static const Engines<AdamWUpdate, void> all(
      {{"cuda", our_cuda_reasons, our_cuda_update},
       {"fused", fused_reasons, fused_update},
       {"reference", [](const AdamWUpdate&) { return Reasons(); }, reference_update}});
  return all;
}

}  // namespace

void adamw_update(const AdamWUpdate& update) {
  const at::NoGradGuard no_grad;
  engines().run(update);
}

void adamw_update_on(const std::string& engine, const AdamWUpdate& update) {
  const at::NoGradGuard no_grad;
  engines().run_on(engine, update);
}

std::vector<EngineReport> explain_adamw_update(const AdamWUpdate& update) {
  return engines().explain(update);
}

}  // namespace x_transformers
