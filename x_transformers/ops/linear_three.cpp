#include "x_transformers/ops/linear_three.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "x_transformers/ops/fast_path.h"
#include "x_transformers/ops/few_rows_cuda.h"
#include "x_transformers/ops/linear.h"

namespace x_transformers {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

class LinearThree : public torch::autograd::Function<LinearThree> {
 public:
  static variable_list forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& a,
                               const at::Tensor& b, const at::Tensor& c) {
    ctx->save_for_backward({x, a, b, c});
    return {at::linear(x, a), at::linear(x, b), at::linear(x, c)};
  }

  static void add_product(at::Tensor& sum, const at::Tensor& a, const at::Tensor& b) {
    if (!sum.defined()) {
      sum = at::mm(a, b);
    } else if (at::GradMode::is_enabled()) {
      sum = at::addmm(sum, a, b);
    } else {
      at::addmm_out(sum, sum, a, b);  // out of place it would copy the sum first
    }
  }

  /// Plain ATen calls, so that it can be differentiated itself.
  static variable_list backward(AutogradContext* ctx, const variable_list& output_grads) {
    const auto saved = ctx->get_saved_variables();
    const auto x = saved[0].flatten(0, -2);
    at::Tensor x_grad;
    variable_list gradients(4);
    for (size_t i = 0; i < output_grads.size(); ++i) {
      if (!output_grads[i].defined()) continue;
      const auto y_grad = output_grads[i].flatten(0, -2);
      const auto& weight = saved[i + 1];
      if (ctx->needs_input_grad(0)) add_product(x_grad, y_grad, weight);
      if (ctx->needs_input_grad(i + 1)) gradients[i + 1] = at::mm(y_grad.t(), x);
    }
    if (x_grad.defined()) gradients[0] = x_grad.view(saved[0].sizes());
    return gradients;
  }
};

}  // namespace

std::array<at::Tensor, 3> linear_three(const at::Tensor& x,
                                       const std::array<at::Tensor, 3>& weights,
                                       const std::optional<RowNorm>& norm) {
  const auto& [a, b, c] = weights;
  // What is cast on the way, or has one dimension, is left to linear.
  bool has_one_type = x.is_cuda() && x.dim() > 1;
  for (const auto& weight : weights)
    has_one_type = has_one_type && weight.is_cuda() && weight.scalar_type() == x.scalar_type();
  const at::Tensor none;
  const LinearEnds ends{.norm = norm, .weights_are_old = norm.has_value()};
  const bool are_few = has_one_type && few_rows_cuda_reasons(x, a, none, ends).empty() &&
                       few_rows_cuda_reasons(x, b, none, ends).empty() &&
                       few_rows_cuda_reasons(x, c, none, ends).empty();
  if (are_few) {
    const auto all = few_rows_cuda(x, {a, b, c}, {}, ends);
    return {all[0], all[1], all[2]};
  }
  if (norm) return linear_three(normalised(x, *norm), weights);
  if (!has_one_type || !records_gradient({x, a, b, c}))
    return {linear(x, a, none), linear(x, b, none), linear(x, c, none)};
  const auto all = LinearThree::apply(x, a, b, c);
  return {all[0], all[1], all[2]};
}

}  // namespace x_transformers
