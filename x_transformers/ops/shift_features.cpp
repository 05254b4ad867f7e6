#include "x_transformers/ops/shift_features.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>

#include "x_transformers/core/error.h"
#include "x_transformers/ops/fast_path.h"

namespace x_transformers {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// t [b, n, count] a token later, or earlier; 0 where nothing comes.
at::Tensor moved(const at::Tensor& t, const at::Tensor& before, bool later) {
  const auto n = t.size(1);
  const auto end = before.defined() ? before : t.new_zeros({t.size(0), 1, t.size(2)});
  return later ? at::cat({end, t.narrow(1, 0, n - 1)}, 1)
               : at::cat({t.narrow(1, 1, n - 1), end}, 1);
}

at::Tensor by_cat(const at::Tensor& x, int64_t count, const at::Tensor& before, bool later) {
  const auto rest = x.narrow(2, count, x.size(2) - count);
  return at::cat({moved(x.narrow(2, 0, count), before, later), rest}, 2);
}

/// The same, with one pass over memory.
at::Tensor by_copies(const at::Tensor& x, int64_t count, const at::Tensor& before, bool later) {
  const auto n = x.size(1), rest = x.size(2) - count;
  auto out = at::empty(x.sizes(), x.options());
  const auto part = [&](const at::Tensor& t, int64_t first) {
    return t.narrow(2, 0, count).narrow(1, first, n - 1);
  };
  out.narrow(2, count, rest).copy_(x.narrow(2, count, rest));
  part(out, later ? 1 : 0).copy_(part(x, later ? 0 : 1));
  auto end = out.narrow(2, 0, count).narrow(1, later ? 0 : n - 1, 1);
  before.defined() ? end.copy_(before) : end.zero_();
  return out;
}

class ShiftFunction : public torch::autograd::Function<ShiftFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x,
                            const std::optional<at::Tensor>& before, int64_t count) {
    ctx->saved_data["count"] = count;
    ctx->saved_data["has_before"] = before.has_value();
    return by_copies(x, count, before.value_or(at::Tensor()), /*later=*/true);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& output_grads) {
    const auto count = ctx->saved_data["count"].toInt();
    const auto& grad = output_grads[0];
    const auto way = at::GradMode::is_enabled() ? by_cat : by_copies;
    at::Tensor before_grad;
    if (ctx->saved_data["has_before"].toBool())
      before_grad = grad.narrow(2, 0, count).narrow(1, 0, 1);
    return {way(grad, count, {}, /*later=*/false), before_grad, {}};
  }
};

}  // namespace

at::Tensor shift_features(const at::Tensor& x, int64_t count, const at::Tensor& before) {
  require(x.dim() == 3 && x.size(1) > 0 && count >= 0 && count <= x.size(2),
          "[shift_features] expected x [b, n, d] of at least one token, and d features or fewer");
  if (!records_gradient({x, before})) return by_copies(x, count, before, /*later=*/true);
  return ShiftFunction::apply(x, before.defined() ? std::optional(before) : std::nullopt, count);
}

}  // namespace x_transformers
