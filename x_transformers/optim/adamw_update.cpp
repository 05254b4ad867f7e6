#include "x_transformers/optim/adamw_update.h"

#include <ATen/ATen.h>

#include <optional>

namespace x_transformers {
namespace {

/// ATen's kernel walks the memory of the four tensors of a weight side by side.
bool lie_alike(const at::Tensor& weight, const at::Tensor& other) {
  return other.sizes() == weight.sizes() && other.strides() == weight.strides() &&
         other.scalar_type() == weight.scalar_type() && other.device() == weight.device();
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
                           lie_alike(weight, update.exp_avg_sqs[i]);
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
  const auto optional = [](const at::Tensor& tensor) {
    return tensor.defined() ? std::optional<at::Tensor>(tensor) : std::nullopt;
  };
  const auto fused = [&](const auto& learning_rate) {
    at::_fused_adamw_(u.weights, u.gradients, u.exp_avgs, u.exp_avg_sqs, {}, u.steps, learning_rate,
                      u.beta1, u.beta2, u.weight_decay, u.eps, /*amsgrad=*/false,
                      /*maximize=*/false, optional(u.grad_scale), optional(u.found_inf));
  };
  u.device_learning_rate.defined() ? fused(u.device_learning_rate) : fused(u.learning_rate);
}

/// The formula, one weight after the other.
void update_weight(const AdamWUpdate& u, size_t i) {
  const auto dtype = u.weights[i].scalar_type();
  const auto scalar = [&](const at::Tensor& t) { return t.to(dtype); };
  const auto learning_rate = u.device_learning_rate.defined()
                                 ? scalar(u.device_learning_rate)
                                 : at::full({}, u.learning_rate, u.weights[i].options());
  const auto step = scalar(u.steps[i]);
  const auto gradient =
      u.grad_scale.defined() ? u.gradients[i] / scalar(u.grad_scale) : u.gradients[i];
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
}

const Engines<AdamWUpdate, void>& engines() {
  static const Engines<AdamWUpdate, void> all(
      {{"fused", fused_reasons, fused_update},
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
