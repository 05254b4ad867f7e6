#include "x_transformers/ops/loss.h"

#include <ATen/ATen.h>

#include "x_transformers/core/error.h"
#include "x_transformers/kernels/cpu/cross_entropy.h"
#include "x_transformers/ops/fast_path.h"

namespace x_transformers {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

int64_t torch_reduction(Reduction reduction) {
  switch (reduction) {
    case Reduction::none:
      return at::Reduction::None;
    case Reduction::sum:
      return at::Reduction::Sum;
    default:
      return at::Reduction::Mean;
  }
}

void check_shapes(const char* op, const at::Tensor& logits, const at::Tensor& target) {
  const auto name = std::string("[") + op + "] ";
  require(logits.dim() > 0 && logits.sizes().slice(0, logits.dim() - 1) == target.sizes(),
          name + "expected one target for each row of predictions [..., classes]");
  require(target.scalar_type() == at::kLong,
          name + "expected int64 targets, got " + at::toString(target.scalar_type()));
}

/// Returns how many targets count.
int64_t check_targets(const char* op, const at::Tensor& target, int64_t ignore_index,
                      int64_t classes) {
  const auto* values = target.const_data_ptr<int64_t>();
  int64_t counted = 0;
  for (int64_t i = 0; i < target.numel(); ++i) {
    if (values[i] == ignore_index) continue;
    ++counted;
    if (values[i] >= 0 && values[i] < classes) continue;
    throw InputError(std::string("[") + op + "] target " + std::to_string(values[i]) +
                     " at flat position " + std::to_string(i) + " is not one of the " +
                     std::to_string(classes) + " classes");
  }
  return counted;
}

struct Losses {
  at::Tensor per_row;      ///< [rows] float32
  at::Tensor log_sum_exp;  ///< [rows] float32
};

/// logits [rows, classes] and target [rows], dense and checked.
Losses run_forward(const at::Tensor& logits, const at::Tensor& target, int64_t ignore_index) {
  const int64_t rows = logits.size(0);
  const Losses losses{at::empty({rows}, at::kFloat), at::empty({rows}, at::kFloat)};
  kernels::CrossEntropyForward params;
  params.logits = logits.const_data_ptr();
  params.element = element_of(logits);
  params.target = target.const_data_ptr<int64_t>();
  params.ignore_index = ignore_index;
  params.losses = losses.per_row.mutable_data_ptr<float>();
  params.log_sum_exp = losses.log_sum_exp.mutable_data_ptr<float>();
  params.rows = rows;
  params.classes = logits.size(1);
  kernels::cross_entropy_forward(params);
  return losses;
}

/// 0 / 0, so NaN, for a mean over nothing.
at::Tensor reduce(const at::Tensor& per_row, Reduction reduction, int64_t counted) {
  if (reduction == Reduction::none) return per_row;
  const auto* values = per_row.const_data_ptr<float>();
  double total = 0.0;
  for (int64_t i = 0; i < per_row.numel(); ++i) total += values[i];
  if (reduction == Reduction::mean) total /= static_cast<double>(counted);
  return at::scalar_tensor(total, at::kFloat);
}

class CrossEntropyFunction : public torch::autograd::Function<CrossEntropyFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& logits,
                            const at::Tensor& target, int64_t ignore_index, Reduction reduction,
                            int64_t counted) {
    const auto losses = run_forward(logits, target, ignore_index);
    ctx->save_for_backward({logits, target, losses.log_sum_exp});
    ctx->saved_data["ignore_index"] = ignore_index;
    ctx->saved_data["reduction"] = static_cast<int64_t>(reduction);
    ctx->saved_data["counted"] = counted;
    return reduce(losses.per_row, reduction, counted).to(logits.scalar_type());
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& output_grads) {
    const auto saved = ctx->get_saved_variables();
    const auto &logits = saved[0], &target = saved[1];
    const auto ignore_index = ctx->saved_data["ignore_index"].toInt();
    const auto reduction = static_cast<Reduction>(ctx->saved_data["reduction"].toInt());
    if (at::GradMode::is_enabled()) {
      const auto reference = [&](const variable_list& inputs) {
        return cross_entropy_reference(inputs[0], target, ignore_index, reduction);
      };
      return {differentiable_gradients(reference, {logits}, output_grads[0])[0], {}, {}, {}, {}};
    }
    const auto output_grad = output_grads[0].to(at::kFloat).contiguous();
    const auto logits_grad = at::empty_like(logits);
    kernels::CrossEntropyBackward params;
    params.logits = logits.const_data_ptr();
    params.logits_grad = logits_grad.mutable_data_ptr();
    params.element = element_of(logits);
    params.target = target.const_data_ptr<int64_t>();
    params.ignore_index = ignore_index;
    params.log_sum_exp = saved[2].const_data_ptr<float>();
    params.rows = logits.size(0);
    params.classes = logits.size(1);
    if (reduction == Reduction::none) {
      params.row_scale = output_grad.const_data_ptr<float>();
    } else {
      params.scale = output_grad.item<float>();
      if (reduction == Reduction::mean) {
        params.scale /= static_cast<float>(ctx->saved_data["counted"].toInt());
      }
    }
    kernels::cross_entropy_backward(params);
    return {logits_grad, {}, {}, {}, {}};
  }
};

at::Tensor fused_cross_entropy(const at::Tensor& logits, const at::Tensor& target,
                               int64_t ignore_index, Reduction reduction) {
  const int64_t classes = logits.size(-1);
  const auto dense_target = target.contiguous();
  const int64_t counted = check_targets("cross_entropy", dense_target, ignore_index, classes);
  const auto rows = logits.reshape({target.numel(), classes}).contiguous();
  const auto row_target = dense_target.view({-1});
  const auto loss =
      records_gradient({rows})
          ? CrossEntropyFunction::apply(rows, row_target, ignore_index, reduction, counted)
          : reduce(run_forward(rows, row_target, ignore_index).per_row, reduction, counted)
                .to(logits.scalar_type());
  return reduction == Reduction::none ? loss.view(target.sizes()) : loss;
}

}  // namespace

std::string cross_entropy_unsupported(const at::Tensor& logits) {
  if (auto reason = cpu_kernel_unsupported(logits, "logits"); !reason.empty()) return reason;
  return logits.dim() == 0 || logits.size(-1) == 0 ? "logits have no classes" : "";
}

at::Tensor cross_entropy_reference(const at::Tensor& logits, const at::Tensor& target,
                                   int64_t ignore_index, Reduction reduction) {
  const auto loss =
      at::cross_entropy_loss(logits.reshape({target.numel(), logits.size(-1)}),
                             target.reshape({-1}), {}, torch_reduction(reduction), ignore_index);
  return reduction == Reduction::none ? loss.reshape(target.sizes()) : loss;
}

at::Tensor cross_entropy(const at::Tensor& logits, const at::Tensor& target, int64_t ignore_index,
                         Reduction reduction) {
  check_shapes("cross_entropy", logits, target);
  if (cross_entropy_unsupported(logits).empty() && target.device().is_cpu()) {
    return fused_cross_entropy(logits, target, ignore_index, reduction);
  }
  return cross_entropy_reference(logits, target, ignore_index, reduction);
}

at::Tensor nll(const at::Tensor& log_probs, const at::Tensor& target, int64_t ignore_index,
               Reduction reduction) {
  check_shapes("nll", log_probs, target);
  const int64_t classes = log_probs.size(-1);
  if (target.device().is_cpu()) check_targets("nll", target.contiguous(), ignore_index, classes);
  const auto loss = at::nll_loss(log_probs.reshape({target.numel(), classes}), target.reshape({-1}),
                                 {}, torch_reduction(reduction), ignore_index);
  return reduction == Reduction::none ? loss.reshape(target.sizes()) : loss;
}

}  // namespace x_transformers
