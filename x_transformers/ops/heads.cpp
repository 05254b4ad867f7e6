#include "x_transformers/ops/heads.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "x_transformers/ops/cuda_launchers.h"
#include "x_transformers/ops/cuda_tensors.h"
#include "x_transformers/ops/fast_path.h"
#include "x_transformers/ops/heads_of_tokens.h"
#include "x_transformers/ops/kernel_tensors.h"
#include "x_transformers/ops/rows.h"

namespace x_transformers {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

void launch_repeat_heads(const at::Tensor& from, const at::Tensor& to, int64_t heads,
                         kernels::Pass pass) {
  kernels::RepeatHeads params;
  params.from = from.const_data_ptr();
  params.to = to.mutable_data_ptr();
  params.element = element_of(from);
  for (int i = 0; i < 3; ++i) {
    params.from_strides[i] = from.stride(i);
    params.to_strides[i] = to.stride(i);
  }
  params.pass = pass;
  params.batch = from.size(0);
  params.heads = heads;
  params.times = std::max(from.size(1), to.size(1)) / heads;
  params.length = from.size(2);
  params.dim = from.size(3);
  our_cuda_kernels().launchers->repeat_heads(params, from.device().index());
}

/// ATen copies such small rows at a fifth of the memory's speed.
class RepeatOnCuda : public torch::autograd::Function<RepeatOnCuda> {
 public:
  static at::Tensor run(const at::Tensor& t, int64_t heads) {
    auto y = at::empty({t.size(0), heads, t.size(2), t.size(3)}, t.options());
    launch_repeat_heads(t, y, t.size(1), kernels::Pass::forward);
    return y;
  }

  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& t, int64_t heads) {
    ctx->saved_data["heads"] = t.size(1);
    return run(t, heads);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& output_grads) {
    const auto& y_grad = output_grads[0];
    const auto heads = ctx->saved_data["heads"].toInt();
    if (at::GradMode::is_enabled()) {
      const auto copies = y_grad.unflatten(1, {y_grad.size(1) / heads, heads});
      return {copies.sum(1), at::Tensor()};
    }
    const auto dense = with_dense_features(y_grad);
    // In memory as it comes out of a projection.
    const auto x_grad = empty_positions_first({dense.size(0), heads, dense.size(2), dense.size(3)},
                                              dense.options());
    launch_repeat_heads(dense, x_grad, heads, kernels::Pass::backward);
    return {x_grad, at::Tensor()};
  }
};

/// Positions first in memory, as projections write them and kernels of attention read them.
class PutInFrontOnCuda : public torch::autograd::Function<PutInFrontOnCuda> {
 public:
  static at::Tensor run(const at::Tensor& front, const at::Tensor& t) {
    const auto m = front.size(2), n = t.size(2);
    auto all = empty_positions_first({t.size(0), t.size(1), m + n, t.size(3)}, t.options());
    copy_heads(front.expand({t.size(0), -1, -1, -1}), all.narrow(2, 0, m));
    copy_heads(t, all.narrow(2, m, n));
    return all;
  }

  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& front, const at::Tensor& t) {
    ctx->saved_data["m"] = front.size(2);
    ctx->saved_data["is_shared"] = front.size(0) == 1;
    return run(front, t);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& output_grads) {
    const auto& all = output_grads[0];
    const auto m = ctx->saved_data["m"].toInt();
    const auto front = all.narrow(2, 0, m);
    return {ctx->saved_data["is_shared"].toBool() ? front.sum(0, true) : front,
            all.narrow(2, m, all.size(2) - m)};
  }
};

bool runs_on_our_kernel(const at::Tensor& t) {
  constexpr int64_t kMaxGrid = 65535;
  return cuda_kernel_reasons(t, "t").empty() && t.size(0) <= kMaxGrid && t.size(1) <= kMaxGrid;
}

}  // namespace

bool may_copy_heads(const at::Tensor& t) {
  return t.dim() == 4 && t.numel() > 0 && t.stride(3) == 1 && runs_on_our_kernel(t);
}

void copy_heads(const at::Tensor& from, const at::Tensor& to) {
  launch_repeat_heads(from, to, from.size(1), kernels::Pass::forward);
}

at::Tensor put_in_front(const at::Tensor& front, const at::Tensor& t) {
  const bool fits = may_copy_heads(front) && may_copy_heads(t) &&
                    front.scalar_type() == t.scalar_type() &&
                    (front.size(0) == 1 || front.size(0) == t.size(0)) &&
                    front.size(1) == t.size(1) && front.size(3) == t.size(3);
  if (!fits) return cat_rows(front, t, 2);
  return records_gradient({front, t}) ? PutInFrontOnCuda::apply(front, t)
                                      : PutInFrontOnCuda::run(front, t);
}

at::Tensor repeat_heads(const at::Tensor& t, int64_t heads) {
  if (t.size(1) == heads) return t;
  if (!runs_on_our_kernel(t)) return t.repeat({1, heads / t.size(1), 1, 1});
  const auto dense = with_dense_features(t);
  return records_gradient({dense}) ? RepeatOnCuda::apply(dense, heads)
                                   : RepeatOnCuda::run(dense, heads);
}

at::Tensor rotate_last_heads(const at::Tensor& t, int64_t count, int64_t heads,
                             const std::function<at::Tensor(const at::Tensor&)>& rotate) {
  if (count >= heads) return rotate(t);
  const auto rest = t.size(1) - count;
  return at::cat({t.narrow(1, 0, rest), rotate(t.narrow(1, rest, count))}, 1);
}

at::Tensor split_heads(const at::Tensor& t, int64_t heads) {
  return t.unflatten(-1, {heads, t.size(-1) / heads}).transpose(1, 2);
}

at::Tensor merge_heads(const at::Tensor& t) { return t.transpose(1, 2).flatten(2); }

}  // namespace x_transformers
