#include "x_transformers/ops/batched_product.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "x_transformers/core/error.h"
#include "x_transformers/ops/fast_path.h"
#include "x_transformers/ops/linear.h"

namespace x_transformers {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct BatchedCall {
  const at::Tensor &a, &b;
};

at::Tensor one_by_one(const at::Tensor& a, const at::Tensor& b) {
  // Rows are to be dense; a copy is little beside the product.
  const auto rows = a.stride(2) == 1 ? a : a.contiguous();
  const auto columns = b.stride(2) == 1 || b.stride(1) == 1 ? b : b.contiguous();
  auto out = at::empty({a.size(0), a.size(1), b.size(2)}, a.options());
  for (int64_t i = 0; i < a.size(0); ++i)
    write_product(out.select(0, i), rows.select(0, i), columns.select(0, i));
  return out;
}

class BatchedProductFunction : public torch::autograd::Function<BatchedProductFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& a, const at::Tensor& b) {
    ctx->save_for_backward({a, b});
    return one_by_one(a, b);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& output_grads) {
    const auto saved = ctx->get_saved_variables();
    if (at::GradMode::is_enabled()) {
      const auto reference = [](const variable_list& inputs) {
        return at::bmm(inputs[0], inputs[1]);
      };
      return differentiable_gradients(reference, saved, output_grads[0]);
    }
    const auto &a = saved[0], &b = saved[1], &grad = output_grads[0];
    variable_list gradients(2);
    if (ctx->needs_input_grad(0)) gradients[0] = batched_product(grad, b.transpose(1, 2));
    if (ctx->needs_input_grad(1)) gradients[1] = batched_product(a.transpose(1, 2), grad);
    return gradients;
  }
};

Reasons cpu_reasons(const BatchedCall& call) {
  const auto &a = call.a, &b = call.b;
  if (a.size(0) == 0) return Reasons("no matrices");
  return Reasons(linear_unsupported(a.select(0, 0), b.select(0, 0).t(), at::Tensor()));
}

at::Tensor by_linear(const BatchedCall& call) {
  return records_gradient({call.a, call.b}) ? BatchedProductFunction::apply(call.a, call.b)
                                            : one_by_one(call.a, call.b);
}

const Engines<BatchedCall, at::Tensor>& batched_engines() {
  static const Engines<BatchedCall, at::Tensor> all(
      {{"cpu", cpu_reasons, by_linear},
       {"reference", [](const BatchedCall&) { return Reasons(); },
        [](const BatchedCall& call) { return at::bmm(call.a, call.b); }}});
  return all;
}

void check(const BatchedCall& call) {
  const auto &a = call.a, &b = call.b;
  const bool fits =
      a.dim() == 3 && b.dim() == 3 && a.size(0) == b.size(0) && a.size(2) == b.size(1);
  require(fits,
          fmt::format("[batched_product] expected a [b, m, k] and b [b, k, n], got [{}] and [{}]",
                      fmt::join(a.sizes(), ", "), fmt::join(b.sizes(), ", ")));
}

}  // namespace

at::Tensor batched_product(const at::Tensor& a, const at::Tensor& b) {
  const BatchedCall call{a, b};
  check(call);
  return batched_engines().run(call);
}

at::Tensor batched_product_on(const std::string& engine, const at::Tensor& a, const at::Tensor& b) {
  const BatchedCall call{a, b};
  check(call);
  return batched_engines().run_on(engine, call);
}

std::vector<EngineReport> explain_batched_product(const at::Tensor& a, const at::Tensor& b) {
  const BatchedCall call{a, b};
  check(call);
  return batched_engines().explain(call);
}

}  // namespace x_transformers
