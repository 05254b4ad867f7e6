#include "x_transformers/ops/offset_scale.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "x_transformers/core/error.h"
#include "x_transformers/kernels/cpu/offset_scale.h"
#include "x_transformers/kernels/cpu/row_chunks.h"
#include "x_transformers/ops/column_sums.h"
#include "x_transformers/ops/cuda_launchers.h"
#include "x_transformers/ops/cuda_tensors.h"
#include "x_transformers/ops/fast_path.h"

namespace x_transformers {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct OffsetScaleCall {
  const at::Tensor &x, &gamma, &beta;
};

at::Tensor offset_scale_reference(const OffsetScaleCall& call) {
  std::vector<int64_t> shape(static_cast<size_t>(call.x.dim()) + 1, 1);
  shape.front() = call.gamma.size(0);
  shape.back() = call.gamma.size(1);
  return at::addcmul(call.beta.view(shape), call.x.unsqueeze(0), call.gamma.view(shape));
}

variable_list with_graph(const variable_list& saved, const at::Tensor& y_grad) {
  const auto again = [](const variable_list& inputs) {
    return offset_scale_reference({inputs[0], inputs[1], inputs[2]});
  };
  return differentiable_gradients(again, saved, y_grad);
}

/// All dense.
at::Tensor run_offset_scale(const OffsetScaleCall& call) {
  auto sizes = call.x.sizes().vec();
  sizes.insert(sizes.begin(), call.gamma.size(0));
  auto y = at::empty(sizes, call.x.options());
  kernels::OffsetScaleForward params;
  params.x = call.x.const_data_ptr<float>();
  params.gamma = call.gamma.const_data_ptr<float>();
  params.beta = call.beta.const_data_ptr<float>();
  params.y = y.mutable_data_ptr<float>();
  params.heads = call.gamma.size(0);
  params.dim = call.gamma.size(1);
  params.rows = call.x.numel() / params.dim;
  kernels::offset_scale_forward(params);
  return y;
}

class OffsetScaleFunction : public torch::autograd::Function<OffsetScaleFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& gamma,
                            const at::Tensor& beta) {
    ctx->save_for_backward({x, gamma, beta});
    return run_offset_scale({x, gamma, beta});
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& output_grads) {
    const auto saved = ctx->get_saved_variables();
    if (at::GradMode::is_enabled()) return with_graph(saved, output_grads[0]);
    const auto &x = saved[0], &gamma = saved[1];
    const auto y_grad = output_grads[0].contiguous();
    const auto x_grad = at::empty_like(x);
    kernels::OffsetScaleBackward params;
    params.heads = gamma.size(0);
    params.dim = gamma.size(1);
    params.rows = x.numel() / params.dim;
    const auto chunks = kernels::row_chunks(params.rows);
    const auto sums = at::empty({2, chunks, params.heads, params.dim}, x.options());
    params.x = x.const_data_ptr<float>();
    params.gamma = gamma.const_data_ptr<float>();
    params.y_grad = y_grad.const_data_ptr<float>();
    params.x_grad = x_grad.mutable_data_ptr<float>();
    params.gamma_grad = sums.mutable_data_ptr<float>();
    params.beta_grad = params.gamma_grad + chunks * gamma.numel();
    kernels::offset_scale_backward(params);
    const auto totals = sums.sum(1);
    return {x_grad, totals[0], totals[1]};
  }
};

/// Forward x [..., dim] -> [heads, ..., dim], backward the other way round; all dense.
at::Tensor launch_offset_scale(const at::Tensor& from, const at::Tensor& gamma,
                               const at::Tensor& beta, kernels::Pass pass) {
  auto sizes = from.sizes().vec();
  const bool is_forward = pass == kernels::Pass::forward;
  is_forward ? sizes.insert(sizes.begin(), gamma.size(0)) : sizes.erase(sizes.begin());
  auto to = at::empty(sizes, from.options());
  kernels::OffsetScale params;
  params.from = from.const_data_ptr();
  params.to = to.mutable_data_ptr();
  params.gamma = gamma.const_data_ptr();
  params.beta = beta.const_data_ptr();
  params.element = element_of(from);
  params.pass = pass;
  params.heads = gamma.size(0);
  params.dim = gamma.size(1);
  params.rows = (is_forward ? from : to).numel() / params.dim;
  our_cuda_kernels().launchers->offset_scale(params, from.device().index());
  return to;
}

class OffsetScaleOnCuda : public torch::autograd::Function<OffsetScaleOnCuda> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& gamma,
                            const at::Tensor& beta) {
    ctx->save_for_backward({x, gamma, beta});
    return launch_offset_scale(x, gamma, beta, kernels::Pass::forward);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& output_grads) {
    const auto saved = ctx->get_saved_variables();
    if (at::GradMode::is_enabled()) return with_graph(saved, output_grads[0]);
    const auto &x = saved[0], &gamma = saved[1], &beta = saved[2];
    const auto y_grad = output_grads[0].contiguous();
    constexpr int64_t kRows = 64, kMaxChunks = 256;
    kernels::OffsetScaleGradients params;
    params.element = element_of(x);
    params.heads = gamma.size(0);
    params.dim = gamma.size(1);
    params.rows = x.numel() / params.dim;
    params.chunks = std::clamp<int64_t>(params.rows / kRows, 1, kMaxChunks);
    const auto sums = at::empty({params.chunks, 2 * gamma.numel()}, x.options().dtype(at::kFloat));
    params.x = x.const_data_ptr();
    params.y_grad = y_grad.const_data_ptr();
    params.sums = sums.mutable_data_ptr<float>();
    our_cuda_kernels().launchers->offset_scale_gradients(params, x.device().index());
    const auto totals = column_sums(sums, gamma.scalar_type()).view({2, -1, params.dim});
    return {launch_offset_scale(y_grad, gamma, beta, kernels::Pass::backward), totals[0],
            totals[1]};
  }
};

Reasons offset_scale_cuda_reasons(const OffsetScaleCall& call) {
  auto reasons = cuda_kernel_reasons(call.x, "x");
  add_unlike(reasons, call.x, call.gamma, "gamma");
  add_unlike(reasons, call.x, call.beta, "beta");
  reasons.add_if(call.x.numel() == 0, "there are no rows");
  return reasons;
}

at::Tensor offset_scale_on_cuda(const OffsetScaleCall& call) {
  const auto x = call.x.contiguous(), gamma = call.gamma.contiguous(),
             beta = call.beta.contiguous();
  return records_gradient({x, gamma, beta})
             ? OffsetScaleOnCuda::apply(x, gamma, beta)
             : launch_offset_scale(x, gamma, beta, kernels::Pass::forward);
}

Reasons offset_scale_reasons(const OffsetScaleCall& call) {
  Reasons reasons;
  for (const auto& t : {call.x, call.gamma, call.beta}) {
    const bool fits =
        t.is_cpu() && t.scalar_type() == at::kFloat && t.layout() == at::kStrided && t.numel() > 0;
    reasons.add_if(!fits, "not a dense float32 tensor on the CPU");
  }
  return reasons;
}

at::Tensor offset_scale_on_cpu(const OffsetScaleCall& call) {
  const auto x = call.x.contiguous(), gamma = call.gamma.contiguous(),
             beta = call.beta.contiguous();
  return records_gradient({x, gamma, beta}) ? OffsetScaleFunction::apply(x, gamma, beta)
                                            : run_offset_scale({x, gamma, beta});
}

const Engines<OffsetScaleCall, at::Tensor>& offset_scale_engines() {
  static const Engines<OffsetScaleCall, at::Tensor> all(
      {{"cpu", offset_scale_reasons, offset_scale_on_cpu},
       {"cuda", offset_scale_cuda_reasons, offset_scale_on_cuda},
       {"reference", [](const OffsetScaleCall&) { return Reasons(); }, offset_scale_reference}});
  return all;
}

void check_offset_scale(const OffsetScaleCall& call) {
  const bool fits = call.x.dim() > 0 && call.gamma.dim() == 2 &&
                    call.gamma.sizes() == call.beta.sizes() &&
                    call.gamma.size(1) == call.x.size(-1);
  require(fits, fmt::format("[offset_scale] expected x [..., dim] and gamma and beta [heads, dim], "
                            "got [{}], [{}] and [{}]",
                            fmt::join(call.x.sizes(), ", "), fmt::join(call.gamma.sizes(), ", "),
                            fmt::join(call.beta.sizes(), ", ")));
}

}  // namespace

at::Tensor offset_scale(const at::Tensor& x, const at::Tensor& gamma, const at::Tensor& beta) {
  const OffsetScaleCall call{x, gamma, beta};
  check_offset_scale(call);
  return offset_scale_engines().run(call);
}

at::Tensor offset_scale_on(const std::string& engine, const at::Tensor& x, const at::Tensor& gamma,
                           const at::Tensor& beta) {
  const OffsetScaleCall call{x, gamma, beta};
  check_offset_scale(call);
  return offset_scale_engines().run_on(engine, call);
}

std::vector<EngineReport> explain_offset_scale(const at::Tensor& x, const at::Tensor& gamma,
                                               const at::Tensor& beta) {
  const OffsetScaleCall call{x, gamma, beta};
  check_offset_scale(call);
  return offset_scale_engines().explain(call);
}

}  // namespace x_transformers
