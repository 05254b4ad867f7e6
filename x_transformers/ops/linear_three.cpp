#include "x_transformers/ops/linear_three.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "x_transformers/ops/fast_path.h"
#include "x_transformers/ops/few_rows_cuda.h"
#include "x_transformers/ops/heads.h"
#include "x_transformers/ops/linear.h"
#include "x_transformers/ops/quantized_weight.h"
#include "x_transformers/ops/side_by_side.h"

namespace x_transformers {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

class LinearThree : public torch::autograd::Function<LinearThree> {
 public:
  static variable_list forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& a,
                               const at::Tensor& b, const at::Tensor& c, bool side_by_side) {
    ctx->save_for_backward({x, a, b, c});
    if (!side_by_side) return {at::linear(x, a), at::linear(x, b), at::linear(x, c)};
    const auto parts = empty_columns(x, {a, b, c});
    const auto rows = x.flatten(0, -2);
    if (const auto weight = rows_of_one_matrix({a, b, c}); weight.defined()) {
      auto all = columns_of_one_matrix(parts);
      at::mm_out(all, rows, weight.t());
    } else {
      const std::array<const at::Tensor*, 3> weights = {&a, &b, &c};
      for (size_t i = 0; i < weights.size(); ++i) {
        auto part = parts[i].flatten(0, -2);
        at::mm_out(part, rows, weights[i]->t());
      }
    }
    return {parts[0], parts[1], parts[2]};
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
    variable_list gradients(5);
    at::Tensor all;
    if (!at::GradMode::is_enabled())
      all = as_one_matrix({output_grads[0], output_grads[1], output_grads[2]}, saved);
    if (all.defined()) return of_one_matrix(ctx, saved, all);
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

 private:
  /// The matrix whose columns the gradients are, copied together where that is worth it; else
  /// undefined.
  static at::Tensor as_one_matrix(const std::array<at::Tensor, 3>& parts,
                                  const variable_list& saved) {
    if (const auto all = columns_of_one_matrix(parts); all.defined()) return all;
    const std::array<at::Tensor, 3> weights = {saved[1], saved[2], saved[3]};
    if (!rows_of_one_matrix(weights).defined()) return {};
    for (const auto& part : parts) {
      if (!part.defined() || part.dim() != 3 || !may_copy_heads(part.unsqueeze(1))) return {};
    }
    const auto columns = empty_columns(saved[0], weights);
    for (size_t i = 0; i < parts.size(); ++i)
      copy_heads(parts[i].unsqueeze(1), columns[i].unsqueeze(1));
    return columns_of_one_matrix(columns);
  }

  /// Of gradients that are the columns of `y_grad`.
  static variable_list of_one_matrix(AutogradContext* ctx, const variable_list& saved,
                                     const at::Tensor& y_grad) {
    variable_list gradients(5);
    const auto& x = saved[0];
    if (ctx->needs_input_grad(0)) {
      const auto weight = rows_of_one_matrix({saved[1], saved[2], saved[3]});
      gradients[0] =
          at::mm(y_grad, weight.defined() ? weight : at::cat({saved[1], saved[2], saved[3]}, 0))
              .view(x.sizes());
    }
    const bool wants_weight =
        ctx->needs_input_grad(1) || ctx->needs_input_grad(2) || ctx->needs_input_grad(3);
    if (!wants_weight) return gradients;
    const auto weight_grad = at::mm(y_grad.t(), x.flatten(0, -2));
    int64_t begin = 0;
    for (size_t i = 1; i <= 3; ++i) {
      const auto rows = saved[i].size(0);
      if (ctx->needs_input_grad(i)) gradients[i] = weight_grad.narrow(0, begin, rows);
      begin += rows;
    }
    return gradients;
  }
};

}  // namespace

std::array<at::Tensor, 3> linear_three(const at::Tensor& x,
                                       const std::array<at::Tensor, 3>& weights,
                                       const LinearThreeOptions& options) {
  const auto& norm = options.norm;
  const auto& [a, b, c] = weights;
  // What is cast on the way, or has one dimension, is left to linear.
  const bool quantized = is_quantized(a) && is_quantized(b) && is_quantized(c) &&
                         a.size(1) == b.size(1) && a.size(1) == c.size(1);
  bool has_one_type = x.is_cuda() && x.dim() > 1 && !quantized;
  for (const auto& weight : weights)
    has_one_type = has_one_type && weight.is_cuda() && weight.scalar_type() == x.scalar_type();
  const at::Tensor none;
  const LinearEnds ends{.norm = norm, .weights_are_old = norm.has_value()};
  const bool are_few = (has_one_type || quantized) &&
                       few_rows_cuda_reasons(x, a, none, ends).empty() &&
                       few_rows_cuda_reasons(x, b, none, ends).empty() &&
                       few_rows_cuda_reasons(x, c, none, ends).empty();
  if (are_few) {
    const auto all = few_rows_cuda(x, {a, b, c}, {}, ends);
    return {all[0], all[1], all[2]};
  }
  if (norm)
    return linear_three(normalised(x, *norm), weights, {.side_by_side = options.side_by_side});
  if (!has_one_type || !records_gradient({x, a, b, c}))
    return {linear(x, a, none), linear(x, b, none), linear(x, c, none)};
  const auto all = LinearThree::apply(x, a, b, c, options.side_by_side && x.numel() > 0);
  return {all[0], all[1], all[2]};
}

}  // namespace x_transformers
