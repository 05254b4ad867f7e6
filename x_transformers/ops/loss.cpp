#include "x_transformers/ops/loss.h"

#include <ATen/ATen.h>

#include <limits>

#include "x_transformers/core/error.h"
#include "x_transformers/kernels/cpu/cross_entropy.h"
#include "x_transformers/ops/cuda_launchers.h"
#include "x_transformers/ops/cuda_tensors.h"
#include "x_transformers/ops/engines.h"
#include "x_transformers/ops/fast_path.h"
#include "x_transformers/ops/kernel_tensors.h"

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

/// The softmax of the rows, and what the loss needs of it.
struct SoftmaxLosses {
  at::Tensor probabilities;  ///< [rows, classes] in the type of the logits
  at::Tensor others;         ///< [rows] float32: probability of all classes but the target
  at::Tensor column;         ///< [rows, 1] the target, 0 where none counts
  at::Tensor counts;         ///< [rows] bool
  at::Tensor loss;           ///< reduced, float32
};

SoftmaxLosses softmax_losses(const at::Tensor& logits, const at::Tensor& target,
                             int64_t ignore_index, Reduction reduction) {
  SoftmaxLosses s;
  s.probabilities = at::softmax(logits, -1);
  s.counts = target != ignore_index;
  s.column = target.masked_fill(~s.counts, 0).unsqueeze(-1);
  const auto chosen = s.probabilities.gather(-1, s.column).squeeze(-1).to(at::kFloat);
  s.others = (s.probabilities.sum(-1, false, at::kFloat) - chosen).clamp(0.0, 1.0);
  // Near 1 the type cannot tell probabilities apart, but the others' are small and exact.
  const auto near_one = -at::log1p(-s.others);
  const auto far_from_one = -chosen.clamp_min(std::numeric_limits<float>::min()).log();
  const auto per_row = at::where(chosen > 0.5, near_one, far_from_one).masked_fill(~s.counts, 0.0);
  s.loss = reduction == Reduction::none ? per_row : per_row.sum();
  if (reduction == Reduction::mean) s.loss = s.loss / s.counts.sum();
  return s;
}

class SoftmaxCrossEntropy : public torch::autograd::Function<SoftmaxCrossEntropy> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& logits,
                            const at::Tensor& target, int64_t ignore_index, Reduction reduction) {
    const auto s = softmax_losses(logits, target, ignore_index, reduction);
    ctx->save_for_backward({logits, target, s.probabilities, s.others, s.column, s.counts});
    ctx->saved_data["ignore_index"] = ignore_index;
    ctx->saved_data["reduction"] = static_cast<int64_t>(reduction);
    return s.loss;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& output_grads) {
    const auto saved = ctx->get_saved_variables();
    const auto &logits = saved[0], &target = saved[1], &probabilities = saved[2],
               &others = saved[3], &column = saved[4], &counts = saved[5];
    const auto ignore_index = ctx->saved_data["ignore_index"].toInt();
    const auto reduction = static_cast<Reduction>(ctx->saved_data["reduction"].toInt());
    if (at::GradMode::is_enabled()) {
      const auto reference = [&](const variable_list& inputs) {
        return cross_entropy_reference(inputs[0].to(at::kFloat), target, ignore_index, reduction);
      };
      return {differentiable_gradients(reference, {logits}, output_grads[0])[0], {}, {}, {}};
    }
    auto scale = output_grads[0].to(at::kFloat);
    if (reduction == Reduction::mean) scale = scale / counts.sum();
    scale = at::where(counts, scale, at::zeros({}, scale.options())).unsqueeze(-1);  // [rows, 1]
    auto gradient = at::empty_like(probabilities);
    at::mul_out(gradient, probabilities, scale);  // the product in float32, rounded once
    const auto at_target = -(others.unsqueeze(-1) * scale).to(gradient.scalar_type());
    return {gradient.scatter_(-1, column, at_target), {}, {}, {}};
  }
};

/// The pass over logits [rows, classes], whose rows are dense, and targets [rows], on CUDA.
kernels::CrossEntropyPass cuda_pass(const at::Tensor& logits, const at::Tensor& target,
                                    int64_t ignore_index) {
  kernels::CrossEntropyPass pass;
  pass.logits = logits.const_data_ptr();
  pass.element = element_of(logits);
  pass.rows = logits.size(0);
  pass.classes = logits.size(1);
  pass.stride = logits.stride(0);
  pass.target = target.const_data_ptr<int64_t>();
  pass.ignore_index = ignore_index;
  return pass;
}

void launch(const kernels::CrossEntropyPass& pass, const at::Tensor& logits) {
  our_cuda_kernels().launchers->cross_entropy(pass, logits.device().index());
}

/// Rows that lie `size(1)` or more numbers apart, each dense.
at::Tensor with_dense_rows(const at::Tensor& logits) {
  const bool has_rows = logits.stride(1) == 1 && logits.stride(0) >= logits.size(1);
  return has_rows || logits.numel() == 0 ? logits : logits.contiguous();
}

/// An empty tensor whose rows lie as far apart as those of `logits`.
at::Tensor empty_rows_like(const at::Tensor& logits) {
  return at::empty({logits.size(0), logits.stride(0)}, logits.options())
      .narrow(1, 0, logits.size(1));
}

class CudaCrossEntropy : public torch::autograd::Function<CudaCrossEntropy> {
 public:
  /// The loss, float32. Fills log_sum_exp [rows].
  static at::Tensor run(const at::Tensor& logits, const at::Tensor& target, int64_t ignore_index,
                        Reduction reduction, const at::Tensor& log_sum_exp) {
    const auto losses = at::empty({logits.size(0)}, logits.options().dtype(at::kFloat));
    auto pass = cuda_pass(logits, target, ignore_index);
    pass.losses = losses.mutable_data_ptr<float>();
    pass.log_sum_exp = mutable_data_or_null(log_sum_exp);
    launch(pass, logits);
    if (reduction == Reduction::none) return losses;
    const auto sum = losses.sum();
    return reduction == Reduction::sum ? sum : sum / (target != ignore_index).sum();
  }

  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& logits,
                            const at::Tensor& target, int64_t ignore_index, Reduction reduction) {
    const auto log_sum_exp = at::empty({logits.size(0)}, logits.options().dtype(at::kFloat));
    ctx->save_for_backward({logits, target, log_sum_exp});
    ctx->saved_data["ignore_index"] = ignore_index;
    ctx->saved_data["reduction"] = static_cast<int64_t>(reduction);
    return run(logits, target, ignore_index, reduction, log_sum_exp);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& output_grads) {
    const auto saved = ctx->get_saved_variables();
    const auto &logits = saved[0], &target = saved[1], &log_sum_exp = saved[2];
    const auto ignore_index = ctx->saved_data["ignore_index"].toInt();
    const auto reduction = static_cast<Reduction>(ctx->saved_data["reduction"].toInt());
    if (at::GradMode::is_enabled()) {
      const auto reference = [&](const variable_list& inputs) {
        return cross_entropy_reference(inputs[0].to(at::kFloat), target, ignore_index, reduction);
      };
      return {differentiable_gradients(reference, {logits}, output_grads[0])[0], {}, {}, {}};
    }
    auto scale = output_grads[0].to(at::kFloat);
    if (reduction == Reduction::mean) scale = scale / (target != ignore_index).sum();
    scale = scale.contiguous();
    const auto gradient = empty_rows_like(logits);
    auto pass = cuda_pass(logits, target, ignore_index);
    pass.log_sum_exp = log_sum_exp.mutable_data_ptr<float>();
    pass.is_known = true;
    pass.logits_grad = gradient.mutable_data_ptr();
    pass.scale = scale.const_data_ptr<float>();
    pass.scale_of_row = reduction == Reduction::none;
    launch(pass, logits);
    return {gradient, {}, {}, {}};
  }
};

}  // namespace

at::Tensor cross_entropy_by_softmax(const at::Tensor& logits, const at::Tensor& target,
                                    int64_t ignore_index, Reduction reduction) {
  check_shapes("cross_entropy", logits, target);
  const auto rows = logits.reshape({target.numel(), logits.size(-1)});
  const auto row_target = target.reshape({-1});
  const auto loss = records_gradient({rows})
                        ? SoftmaxCrossEntropy::apply(rows, row_target, ignore_index, reduction)
                        : softmax_losses(rows, row_target, ignore_index, reduction).loss;
  return reduction == Reduction::none ? loss.reshape(target.sizes()) : loss;
}

namespace {

at::Tensor cuda_cross_entropy(const at::Tensor& logits, const at::Tensor& target,
                              int64_t ignore_index, Reduction reduction) {
  const auto rows = with_dense_rows(logits.reshape({target.numel(), logits.size(-1)}));
  const auto row_target = target.reshape({-1}).contiguous();
  const auto loss =
      records_gradient({rows})
          ? CudaCrossEntropy::apply(rows, row_target, ignore_index, reduction)
          : CudaCrossEntropy::run(rows, row_target, ignore_index, reduction, at::Tensor());
  return reduction == Reduction::none ? loss.reshape(target.sizes()) : loss;
}

}  // namespace

at::Tensor loss_and_logits_grad(at::Tensor& logits, const at::Tensor& target, int64_t ignore_index,
                                const at::Tensor& scale) {
  auto losses = at::empty({logits.size(0)}, logits.options().dtype(at::kFloat));
  auto pass = cuda_pass(logits, target, ignore_index);
  pass.losses = losses.mutable_data_ptr<float>();
  pass.logits_grad = logits.mutable_data_ptr();
  pass.scale = scale.const_data_ptr<float>();
  launch(pass, logits);
  return losses;
}

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

namespace {

struct CrossEntropyCall {
  const at::Tensor &logits, &target;
  int64_t ignore_index;
  Reduction reduction;
};

Reasons fused_reasons(const CrossEntropyCall& call) {
  Reasons reasons(cross_entropy_unsupported(call.logits));
  reasons.add_if(!call.target.device().is_cpu(), "the targets are not on the CPU");
  return reasons;
}

Reasons cuda_loss_reasons(const CrossEntropyCall& call) {
  auto reasons = cuda_kernel_reasons(call.logits, "logits");
  reasons.add_if(call.logits.size(-1) == 0, "logits have no classes");
  reasons.add_if(call.target.device() != call.logits.device(), "the targets are elsewhere");
  return reasons;
}

Reasons softmax_reasons(const CrossEntropyCall& call) {
  Reasons reasons;
  reasons.add_if(!call.logits.is_cuda(), "not on a CUDA device");
  // In float16 a probability below 6e-8 is 0, and one below 6e-5 has lost digits.
  reasons.add_if(call.logits.scalar_type() != at::kBFloat16, "not bfloat16");
  return reasons;
}

const Engines<CrossEntropyCall, at::Tensor>& cross_entropy_engines() {
  using Call = CrossEntropyCall;
  static const Engines<Call, at::Tensor> all(
      {{"cpu", fused_reasons,
        [](const Call& c) {
          return fused_cross_entropy(c.logits, c.target, c.ignore_index, c.reduction);
        }},
       {"cuda", cuda_loss_reasons,
        [](const Call& c) {
          return cuda_cross_entropy(c.logits, c.target, c.ignore_index, c.reduction);
        }},
       {"by_softmax", softmax_reasons,
        [](const Call& c) {
          return cross_entropy_by_softmax(c.logits, c.target, c.ignore_index, c.reduction);
        }},
       {"reference", [](const Call&) { return Reasons(); },
        [](const Call& c) {
          return cross_entropy_reference(c.logits, c.target, c.ignore_index, c.reduction);
        }}});
  return all;
}

}  // namespace

at::Tensor cross_entropy(const at::Tensor& logits, const at::Tensor& target, int64_t ignore_index,
                         Reduction reduction) {
  check_shapes("cross_entropy", logits, target);
  return cross_entropy_engines().run({logits, target, ignore_index, reduction});
}

at::Tensor cross_entropy_on(const std::string& engine, const at::Tensor& logits,
                            const at::Tensor& target, int64_t ignore_index, Reduction reduction) {
  check_shapes("cross_entropy", logits, target);
  return cross_entropy_engines().run_on(engine, {logits, target, ignore_index, reduction});
}

std::vector<EngineReport> explain_cross_entropy(const at::Tensor& logits,
                                                const at::Tensor& target) {
  check_shapes("cross_entropy", logits, target);
  return cross_entropy_engines().explain({logits, target, kIgnoredTarget, Reduction::mean});
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
