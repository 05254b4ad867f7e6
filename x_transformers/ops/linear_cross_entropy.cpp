#include "x_transformers/ops/linear_cross_entropy.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <optional>

#include "x_transformers/core/error.h"
#include "x_transformers/ops/column_sums.h"
#include "x_transformers/ops/cuda_tensors.h"
#include "x_transformers/ops/fast_path.h"
#include "x_transformers/ops/linear.h"
#include "x_transformers/ops/loss.h"
#include "x_transformers/ops/quantized_weight.h"
#include "x_transformers/ops/scale.h"

namespace x_transformers {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// The loss in one piece.
at::Tensor whole(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                 const at::Tensor& target, int64_t ignore_index) {
  const auto type = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  return cross_entropy_reference(linear_reference(x, weight, bias).to(type), target, ignore_index,
                                 Reduction::mean);
}

/// Which gradients a pass makes.
struct Wanted {
  bool x, weight, bias;
  bool any() const { return x || weight || bias; }
};

/// A pass over all rows, [rows, dim] with targets [rows].
class ChunkedPass {
 public:
  ChunkedPass(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
              const at::Tensor& target, int64_t ignore_index, const Wanted& wanted)
      : x_(x),
        weight_(weight),
        bias_(bias),
        target_(target),
        ignore_index_(ignore_index),
        wanted_(wanted) {
    share_ = 1.0 / (target != ignore_index).sum().to(at::kDouble);
    if (wanted.x) x_grad = at::empty_like(x);
    if (!on_our_kernel()) return;
    // A product with a number of columns that 16 bytes do not divide takes cuBLAS up to eight times
    // as long: columns are added that no class has.
    const auto classes = weight.size(0);
    constexpr int64_t kMultiple = 64, kMin = 8;
    if (classes % kMin != 0) {
      const auto more = (classes / kMultiple + 1) * kMultiple - classes;
      weight_ = at::constant_pad_nd(weight, {0, 0, 0, more});
      if (bias.defined()) bias_ = at::constant_pad_nd(bias, {0, more});
    }
  }

  void run(int64_t chunk) {
    is_one_chunk_ = chunk >= x_.size(0) && x_.size(0) > 0;
    if (!is_one_chunk_) {
      // Sums over chunks, in more digits than 16 bits have.
      if (wanted_.weight) weight_grad = at::zeros(weight_.sizes(), sum_options());
      if (wanted_.bias) bias_grad = at::zeros({weight_.size(0)}, sum_options());
    }
    at::Tensor sum;
    for (int64_t begin = 0; begin < x_.size(0); begin += chunk) {
      const auto part = run_rows(begin, std::min(chunk, x_.size(0) - begin));
      sum = sum.defined() ? sum + part : part;
    }
    if (!sum.defined()) sum = at::zeros({}, x_.options().dtype(at::kDouble));
    loss = (sum * share_).to(x_.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
    const auto finish = [&](at::Tensor& grad) {
      if (grad.defined()) grad = grad.narrow(0, 0, classes_).to(weight_.scalar_type());
    };
    finish(weight_grad);
    finish(bias_grad);
  }

  at::Tensor loss, x_grad, weight_grad, bias_grad;

 private:
  at::TensorOptions sum_options() const {
    const bool is_low = x_.scalar_type() == at::kBFloat16 || x_.scalar_type() == at::kHalf;
    return weight_.options()
        .dtype(is_low ? at::kFloat : weight_.scalar_type())
        .requires_grad(false);
  }

  bool on_our_kernel() const { return cuda_kernel_reasons(x_, "x").empty(); }

  /// Adds the gradients of some rows, and returns the sum of their losses.
  at::Tensor run_rows(int64_t begin, int64_t count) {
    const auto x = x_.narrow(0, begin, count), target = target_.narrow(0, begin, count);
    auto logits = linear(x, weight_, bias_);
    auto of_classes = logits.narrow(1, 0, classes_);
    if (!wanted_.any())
      return cross_entropy(of_classes, target, ignore_index_, Reduction::none).sum(at::kDouble);
    at::Tensor losses, logits_grad;
    if (on_our_kernel()) {
      losses = loss_and_logits_grad(of_classes, target, ignore_index_, share_.to(at::kFloat));
      logits_grad = logits;
    } else {
      logits = logits.detach().requires_grad_();
      {
        const at::AutoGradMode recorded(true);
        losses = cross_entropy(logits, target, ignore_index_, Reduction::none);
      }
      const auto shares = share_.to(losses.scalar_type()).expand_as(losses);
      logits_grad = torch::autograd::grad({losses}, {logits}, {shares})[0];
    }
    if (x_grad.defined()) {
      const auto grad = linear(logits_grad, weight_.t(), at::Tensor());
      is_one_chunk_ ? void(x_grad = grad) : void(x_grad.narrow(0, begin, count).copy_(grad));
    }
    if (wanted_.weight) add_weight_grad(logits_grad, x);
    if (wanted_.bias) {
      const auto grad = column_sums(logits_grad, sum_options().dtype().toScalarType());
      is_one_chunk_ ? void(bias_grad = grad) : void(bias_grad += grad);
    }
    return losses.detach().sum(at::kDouble);
  }

  void add_weight_grad(const at::Tensor& logits_grad, const at::Tensor& x) {
    if (is_one_chunk_) {
      weight_grad = linear(logits_grad.t(), x.t(), at::Tensor());
      return;
    }
    const bool is_aten = weight_grad.scalar_type() == x.scalar_type() &&
                         !linear_unsupported(logits_grad.t(), x.t(), at::Tensor()).empty();
    if (is_aten) {
      weight_grad.addmm_(logits_grad.t(), x);
    } else {
      weight_grad += linear(logits_grad.t(), x.t(), at::Tensor());
    }
  }

  at::Tensor x_, weight_, bias_, target_;  ///< weight and bias with classes added that none has
  int64_t ignore_index_;
  Wanted wanted_;
  int64_t classes_ = weight_.size(0);
  bool is_one_chunk_ = false;
  at::Tensor share_;  ///< of a target in the mean; infinite where there is none
};

class LinearCrossEntropyFunction : public torch::autograd::Function<LinearCrossEntropyFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias_given, const at::Tensor& target,
                            int64_t ignore_index, int64_t chunk, const Wanted& wanted) {
    const auto bias = bias_given.value_or(at::Tensor());
    ChunkedPass pass(x, weight, bias, target, ignore_index, wanted);
    pass.run(chunk);
    ctx->save_for_backward({x, weight, bias, target});
    ctx->saved_data["ignore_index"] = ignore_index;
    ctx->saved_data["gradients"] = c10::List<std::optional<at::Tensor>>(
        {optional(pass.x_grad), optional(pass.weight_grad), optional(pass.bias_grad)});
    return pass.loss;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& output_grads) {
    const auto saved = ctx->get_saved_variables();
    variable_list gradients(7);
    // The gradients that the forward pass made are given away once; whoever comes again gets them
    // anew.
    const auto kept = ctx->saved_data.find("gradients");
    if (at::GradMode::is_enabled() || kept == ctx->saved_data.end()) {
      const auto &x = saved[0], &weight = saved[1], &bias = saved[2], &target = saved[3];
      const auto ignore_index = ctx->saved_data["ignore_index"].toInt();
      const auto reference = [&](const variable_list& inputs) {
        return whole(inputs[0], inputs[1], inputs[2], target, ignore_index);
      };
      const bool is_differentiated = at::GradMode::is_enabled();
      const at::AutoGradMode recorded(true);
      const auto found = differentiable_gradients(reference, {x, weight, bias}, output_grads[0]);
      for (size_t i = 0; i < found.size(); ++i) {
        const bool is_plain = found[i].defined() && !is_differentiated;
        gradients[i] = is_plain ? found[i].detach() : found[i];
      }
      return gradients;
    }
    const auto made = kept->second.toOptionalTensorVector();
    ctx->saved_data.erase(kept);
    for (size_t i = 0; i < made.size(); ++i) {
      if (made[i]) gradients[i] = scaled_in_place(*made[i], output_grads[0]);
    }
    return gradients;
  }

 private:
  static std::optional<at::Tensor> optional(const at::Tensor& tensor) {
    return tensor.defined() ? std::optional(tensor) : std::nullopt;
  }
};

}  // namespace

at::Tensor linear_cross_entropy(const at::Tensor& x, const at::Tensor& weight,
                                const at::Tensor& bias, const at::Tensor& target,
                                int64_t ignore_index, int64_t chunk) {
  require(chunk >= 1, "[linear_cross_entropy] expected chunks of at least one row, got " +
                          std::to_string(chunk));
  require(x.dim() > 0 && x.sizes().slice(0, x.dim() - 1) == target.sizes(),
          "[linear_cross_entropy] expected one target for each row [..., dim]");
  const auto rows = x.reshape({target.numel(), x.size(-1)});
  const auto row_target = target.reshape({-1});
  if (is_quantized(weight))
    return linear_cross_entropy(x, dequantized(weight, x.size(-1), x.scalar_type()), bias, target,
                                ignore_index, chunk);
  const auto needs = [](const at::Tensor& t) { return t.defined() && t.requires_grad(); };
  if (!records_gradient({x, weight, bias})) {
    ChunkedPass pass(rows, weight, bias, row_target, ignore_index, {false, false, false});
    pass.run(chunk);
    return pass.loss;
  }
  return LinearCrossEntropyFunction::apply(
      rows, weight, bias.defined() ? std::optional(bias) : std::nullopt, row_target, ignore_index,
      chunk, Wanted{needs(x), needs(weight), needs(bias)});
}

}  // namespace x_transformers
