#include "x_transformers/ops/polar.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "x_transformers/core/error.h"
#include "x_transformers/core/tensor_check.h"
#include "x_transformers/ops/cuda_launchers.h"
#include "x_transformers/ops/cuda_tensors.h"
#include "x_transformers/ops/fast_path.h"
#include "x_transformers/ops/heads_of_tokens.h"
#include "x_transformers/ops/kernel_tensors.h"

namespace x_transformers {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kVector = 8;  // features

struct PolarCall {
  const at::Tensor &t, &angles;
};

at::Tensor polar_reference(const PolarCall& call) {
  const auto radius = at::softplus(call.t.to(at::kFloat));
  return at::cat({radius * call.angles.cos(), radius * call.angles.sin()}, -1)
      .to(call.t.scalar_type());
}

/// Angles of which all batch entries or all heads may have the same.
kernels::HeadsOfTokens shared_heads_of_tokens(const at::Tensor& angles) {
  auto memory = heads_of_tokens(angles);
  for (int i = 0; i < 3; ++i)
    if (angles.size(i) == 1) memory.strides[i] = 0;
  return memory;
}

/// Rows of features as the kernel reads them.
bool has_vectors(const at::Tensor& tensor) {
  bool fits = tensor.stride(3) == 1 && is_aligned(tensor);
  for (int i = 0; i < 3; ++i) fits = fits && tensor.stride(i) % kVector == 0;
  return fits;
}

at::Tensor with_vectors(const at::Tensor& tensor) {
  return has_vectors(tensor) ? tensor : tensor.clone(at::MemoryFormat::Contiguous);
}

kernels::PolarPass pass_of(const at::Tensor& t, const at::Tensor& angles) {
  kernels::PolarPass params;
  params.t = heads_of_tokens(t);
  params.element = element_of(t);
  params.angles = shared_heads_of_tokens(angles);
  params.batch = t.size(0);
  params.heads = t.size(1);
  params.length = t.size(2);
  params.dim = t.size(3);
  return params;
}

void run_pass(const kernels::PolarPass& params, const at::Tensor& t) {
  our_cuda_kernels().launchers->polar(params, t.device().index());
}

class PolarFunction : public torch::autograd::Function<PolarFunction> {
 public:
  static at::Tensor run(const at::Tensor& t, const at::Tensor& angles) {
    auto y = empty_positions_first({t.size(0), t.size(1), t.size(2), 2 * t.size(3)}, t.options());
    auto params = pass_of(t, angles);
    params.y = heads_of_tokens(y);
    run_pass(params, t);
    return y;
  }

  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& t, const at::Tensor& angles) {
    ctx->save_for_backward({t, angles});
    return run(t, angles);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& output_grads) {
    const auto saved = ctx->get_saved_variables();
    const auto &t = saved[0], &angles = saved[1];
    if (at::GradMode::is_enabled()) {
      const auto reference = [](const variable_list& inputs) {
        return polar_reference({inputs[0], inputs[1]});
      };
      return differentiable_gradients(reference, saved, output_grads[0]);
    }
    const auto y_grad = with_vectors(output_grads[0]);
    const auto t_grad = empty_positions_first_like(t);
    at::Tensor angles_grad;
    auto params = pass_of(t, angles);
    params.y_grad = heads_of_tokens(y_grad);
    params.t_grad = heads_of_tokens(t_grad);
    if (ctx->needs_input_grad(1)) {
      angles_grad = at::empty_like(angles);
      params.angles_grad = angles_grad.mutable_data_ptr<float>();
    }
    run_pass(params, t);
    return {t_grad, angles_grad};
  }
};

Reasons polar_reasons(const PolarCall& call) {
  auto reasons = cuda_kernel_reasons(call.t, "t");
  if (!call.t.is_cuda()) return reasons;
  const auto &t = call.t, &angles = call.angles;
  reasons.add_if(t.scalar_type() != at::kBFloat16 && t.scalar_type() != at::kHalf,
                 "not of 16 bits");
  reasons.add_if(!angles.is_cuda() || angles.scalar_type() != at::kFloat,
                 "the angles are not float32 on CUDA");
  reasons.add_if(t.size(3) % kVector != 0, "features that are no vectors of 16 bytes");
  reasons.add_if(records_gradient({angles}) && angles.size(1) != t.size(1),
                 "a gradient of angles that heads share");
  constexpr int64_t kMaxBlocks = 65'535;
  reasons.add_if(t.size(0) > kMaxBlocks || t.size(1) > kMaxBlocks,
                 "more than 65535 heads or entries");
  return reasons;
}

at::Tensor polar_on_cuda(const PolarCall& call) {
  const auto t = with_vectors(call.t), angles = call.angles.contiguous();
  return records_gradient({t, angles}) ? PolarFunction::apply(t, angles)
                                       : PolarFunction::run(t, angles);
}

const Engines<PolarCall, at::Tensor>& polar_engines() {
  static const Engines<PolarCall, at::Tensor> all(
      {{"cuda", polar_reasons, polar_on_cuda},
       {"reference", [](const PolarCall&) { return Reasons(); }, polar_reference}});
  return all;
}

void check_polar(const PolarCall& call) {
  const auto &t = call.t, &angles = call.angles;
  bool fits = t.dim() == 4 && angles.dim() == 4 && t.size(2) == angles.size(2) &&
              t.size(3) == angles.size(3);
  for (int i = 0; i < 2; ++i) fits = fits && (angles.size(i) == 1 || angles.size(i) == t.size(i));
  expect(fits, at("angles"), shown(angles.sizes()), "angles of each of {}", shown(t.sizes()));
}

}  // namespace

at::Tensor polar_positions(const at::Tensor& t, const at::Tensor& angles) {
  check_polar({t, angles});
  return polar_engines().run({t, angles});
}

at::Tensor polar_positions_on(const std::string& engine, const at::Tensor& t,
                              const at::Tensor& angles) {
  check_polar({t, angles});
  return polar_engines().run_on(engine, {t, angles});
}

std::vector<EngineReport> explain_polar_positions(const at::Tensor& t, const at::Tensor& angles) {
  check_polar({t, angles});
  return polar_engines().explain({t, angles});
}

}  // namespace x_transformers
