#include "x_transformers/ops/linear_cuda.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>

#include "x_transformers/ops/column_sums.h"
#include "x_transformers/ops/cuda_launchers.h"
#include "x_transformers/ops/cuda_tensors.h"
#include "x_transformers/ops/fast_path.h"
#include "x_transformers/ops/linear.h"

namespace x_transformers {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using MaybeTensor = std::optional<at::Tensor>;  // autograd takes no undefined tensors

kernels::LinearAdd params_of(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                             const at::Tensor& residual) {
  kernels::LinearAdd params;
  params.element = element_of(x);
  params.rows = x.numel() / x.size(-1);
  params.dim = x.size(-1);
  params.dim_out = weight.size(0);
  params.x = x.const_data_ptr();
  params.weight = weight.const_data_ptr();
  if (bias.defined()) params.bias = bias.const_data_ptr();
  params.residual = residual.const_data_ptr();
  return params;
}

at::Tensor run(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
               const at::Tensor& residual) {
  if (!residual.defined()) return linear_reference(x, weight, bias);
  auto out = at::empty_like(residual);
  auto params = params_of(x, weight, bias, residual);
  params.out = out.mutable_data_ptr();
  our_cuda_kernels().launchers->linear_add(params, x.device().index());
  return out;
}

class CudaLinear : public torch::autograd::Function<CudaLinear> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight,
                            const MaybeTensor& bias, const MaybeTensor& residual) {
    ctx->save_for_backward({x, weight, bias.value_or(at::Tensor())});
    ctx->saved_data["adds"] = residual.has_value();
    return run(x, weight, bias.value_or(at::Tensor()), residual.value_or(at::Tensor()));
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& output_grads) {
    const auto saved = ctx->get_saved_variables();
    const auto &x = saved[0], &weight = saved[1], &bias = saved[2];
    variable_list gradients(4);
    if (at::GradMode::is_enabled()) {
      const auto reference = [](const variable_list& inputs) {
        return linear_reference(inputs[0], inputs[1], inputs[2]);
      };
      const auto found = differentiable_gradients(reference, saved, output_grads[0]);
      for (size_t i = 0; i < found.size(); ++i) gradients[i] = found[i];
    } else {
      const auto y_grad = output_grads[0].flatten(0, -2);
      if (ctx->needs_input_grad(0)) gradients[0] = at::mm(y_grad, weight).view(x.sizes());
      if (ctx->needs_input_grad(1)) gradients[1] = at::mm(y_grad.t(), x.flatten(0, -2));
      if (bias.defined() && ctx->needs_input_grad(2))
        gradients[2] = column_sums(y_grad, bias.scalar_type());
    }
    // Its place among the tensors that there are.
    const size_t residual = bias.defined() ? 3 : 2;
    if (ctx->saved_data["adds"].toBool() && ctx->needs_input_grad(residual))
      gradients[3] = output_grads[0];
    return gradients;
  }
};

}  // namespace

at::Tensor linear_cuda(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                       const at::Tensor& residual) {
  if (!records_gradient({x, weight, bias, residual})) return run(x, weight, bias, residual);
  const auto maybe = [](const at::Tensor& t) {
    return t.defined() ? MaybeTensor(t) : std::nullopt;
  };
  return CudaLinear::apply(x, weight, maybe(bias), maybe(residual));
}

Reasons linear_cuda_reasons(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                            const at::Tensor& residual) {
  auto reasons = cuda_kernel_reasons(x, "x");
  if (!x.is_cuda()) return reasons;
  add_unlike(reasons, x, weight, "weight");
  add_unlike(reasons, x, bias, "bias");
  add_unlike(reasons, x, residual, "the residual");
  const bool fits = x.dim() > 1 && weight.dim() == 2 && x.size(-1) == weight.size(1) &&
                    (!bias.defined() || (bias.dim() == 1 && bias.size(0) == weight.size(0)));
  reasons.add_if(!fits || x.numel() == 0, "not rows and a matrix");
  if (!reasons.empty() || !residual.defined()) return reasons;
  auto sizes = x.sizes().vec();
  sizes.back() = weight.size(0);
  reasons.add_if(x.scalar_type() == at::kFloat, "not in 16 bits");
  reasons.add_if(residual.sizes() != sizes, "the sizes of the residual");
  reasons.add_if(!x.is_contiguous() || !weight.is_contiguous() || !residual.is_contiguous() ||
                     (bias.defined() && !bias.is_contiguous()),
                 "operands are not dense");
  if (!reasons.empty()) return reasons;
  const auto can_add = our_cuda_kernels().launchers->can_add_linear;
  reasons.add_if(!can_add(params_of(x, weight, bias, residual), x.device().index()),
                 "cuBLAS has no such product");
  return reasons;
}

bool adds_in_product(const at::Tensor& x) {
  return x.is_cuda() && x.scalar_type() != at::kFloat && records_gradient({x}) &&
         cuda_kernel_reasons(x, "x").empty();
}

}  // namespace x_transformers
