#include "x_transformers/ops/activation.h"

#include <ATen/ATen.h>

#include "x_transformers/core/error.h"
#include "x_transformers/kernels/cpu/activation.h"
#include "x_transformers/kernels/cpu/row_chunks.h"
#include "x_transformers/ops/column_sums.h"
#include "x_transformers/ops/cuda_launchers.h"
#include "x_transformers/ops/cuda_tensors.h"
#include "x_transformers/ops/engines.h"
#include "x_transformers/ops/fast_path.h"

namespace x_transformers {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

at::Tensor apply(const at::Tensor& x, Activation activation) {
  switch (activation) {
    case Activation::identity:
      return x;
    case Activation::relu:
      return at::relu(x);
    case Activation::relu_squared:
      return at::relu(x).square();
    case Activation::gelu:
      return at::gelu(x);
    case Activation::gelu_tanh:
      return at::gelu(x, "tanh");
    case Activation::silu:
      return at::silu(x);
    case Activation::sigmoid:
      return at::sigmoid(x);
    case Activation::tanh:
      return at::tanh(x);
  }
  throw InputError("[activate] unknown activation " + std::to_string(static_cast<int>(activation)));
}

/// [x_dim] as the kernels take it: float32 on the CPU; undefined for none.
at::Tensor dense_bias(const std::optional<at::Tensor>& bias) {
  if (!bias.has_value()) return {};
  const auto dense = bias->detach().contiguous();
  return dense.is_cuda() ? dense : dense.to(at::kFloat);
}

const void* memory_of(const at::Tensor& bias) {
  return bias.defined() ? bias.const_data_ptr() : nullptr;
}

int64_t chunks_of(const at::Tensor& x, int64_t rows, int64_t dim) {
  return x.is_cuda() ? our_cuda_kernels().launchers->activation_chunks(rows, dim)
                     : kernels::row_chunks(rows);
}

/// x dense [..., dim or 2 dim].
at::Tensor run_forward(const at::Tensor& x, const at::Tensor& bias, Activation activation,
                       bool gated) {
  auto sizes = x.sizes().vec();
  if (gated) sizes.back() /= 2;
  auto y = at::empty(sizes, x.options());
  if (y.numel() == 0) return y;
  kernels::ActivationForward params;
  params.x = x.const_data_ptr();
  params.y = y.mutable_data_ptr();
  params.element = element_of(x);
  params.bias = memory_of(bias);
  params.kind = activation;
  params.gated = gated;
  params.dim = sizes.empty() ? 1 : sizes.back();
  params.rows = y.numel() / params.dim;
  x.is_cuda() ? our_cuda_kernels().launchers->activation_forward(params, x.device().index())
              : kernels::activation_forward(params);
  return y;
}

class ActivationFunction : public torch::autograd::Function<ActivationFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x,
                            const std::optional<at::Tensor>& bias, Activation activation,
                            bool gated) {
    ctx->save_for_backward({x, bias.value_or(at::Tensor())});
    ctx->saved_data["activation"] = static_cast<int64_t>(activation);
    ctx->saved_data["gated"] = gated;
    return run_forward(x, dense_bias(bias), activation, gated);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& output_grads) {
    const auto saved = ctx->get_saved_variables();
    const auto activation = static_cast<Activation>(ctx->saved_data["activation"].toInt());
    const bool gated = ctx->saved_data["gated"].toBool();
    const auto &x = saved[0], &bias = saved[1];
    if (at::GradMode::is_enabled()) {
      const auto reference = [&](const variable_list& inputs) {
        return gated ? glu_reference(inputs[0], activation, inputs[1])
                     : activate_reference(inputs[0], activation, inputs[1]);
      };
      const auto gradients = differentiable_gradients(reference, {x, bias}, output_grads[0]);
      return {gradients[0], gradients[1], {}, {}};
    }
    const bool wants_bias = bias.defined() && ctx->needs_input_grad(1);
    const auto y_grad = output_grads[0].contiguous();
    const auto x_grad = at::empty_like(x);
    const auto dense = dense_bias(bias.defined() ? std::optional(bias) : std::nullopt);
    kernels::ActivationBackward params;
    params.dim = x.dim() == 0 ? 1 : x.size(-1) / (gated ? 2 : 1);
    params.rows = params.dim == 0 ? 0 : y_grad.numel() / params.dim;
    at::Tensor partial;
    if (wants_bias) {
      params.chunks = chunks_of(x, params.rows, params.dim);
      partial = at::empty({params.chunks, bias.numel()}, x.options().dtype(at::kFloat));
      params.bias_grad = partial.mutable_data_ptr<float>();
    }
    if (x.numel() > 0) {
      params.x = x.const_data_ptr();
      params.y_grad = y_grad.const_data_ptr();
      params.x_grad = x_grad.mutable_data_ptr();
      params.element = element_of(x);
      params.bias = memory_of(dense);
      params.kind = activation;
      params.gated = gated;
      x.is_cuda() ? our_cuda_kernels().launchers->activation_backward(params, x.device().index())
                  : kernels::activation_backward(params);
    }
    return {x_grad, wants_bias ? column_sums(partial, bias.scalar_type()) : at::Tensor(), {}, {}};
  }
};

at::Tensor fused(const at::Tensor& x, Activation activation, const at::Tensor& bias, bool gated) {
  const auto dense = x.contiguous();
  const auto optional_bias = bias.defined() ? std::optional(bias) : std::nullopt;
  if (records_gradient({dense, bias})) {
    return ActivationFunction::apply(dense, optional_bias, activation, gated);
  }
  return run_forward(dense, dense_bias(optional_bias), activation, gated);
}

struct ActivationCall {
  const at::Tensor &x, &bias;
  Activation activation;
  bool gated;
};

Reasons activation_cuda_reasons(const ActivationCall& call) {
  auto reasons = cuda_kernel_reasons(call.x, "x");
  if (call.x.is_cuda()) add_unlike(reasons, call.x, call.bias, "bias");
  return reasons;
}

const Engines<ActivationCall, at::Tensor>& activation_engines() {
  using Call = ActivationCall;
  static const Engines<Call, at::Tensor> all(
      {{"cpu", [](const Call& call) { return Reasons(activation_unsupported(call.x, call.bias)); },
        [](const Call& call) { return fused(call.x, call.activation, call.bias, call.gated); }},
       {"cuda", activation_cuda_reasons,
        [](const Call& call) { return fused(call.x, call.activation, call.bias, call.gated); }},
       {"reference", [](const Call&) { return Reasons(); },
        [](const Call& call) {
          return call.gated ? glu_reference(call.x, call.activation, call.bias)
                            : activate_reference(call.x, call.activation, call.bias);
        }}});
  return all;
}

void check_bias(const at::Tensor& x, const at::Tensor& bias) {
  if (!bias.defined()) return;
  require(x.dim() > 0 && bias.dim() == 1 && bias.size(0) == x.size(-1),
          "[activate] expected a bias of as many entries as x has features, got " +
              std::to_string(bias.numel()));
}

ActivationCall activate_call(const at::Tensor& x, Activation activation, const at::Tensor& bias) {
  check_bias(x, bias);
  return {x, bias, activation, false};
}

ActivationCall glu_call(const at::Tensor& x, Activation activation, const at::Tensor& bias) {
  require(x.dim() > 0 && x.size(-1) % 2 == 0,
          "[glu] expected an even number of features to halve, got " +
              std::to_string(x.dim() > 0 ? x.size(-1) : 1));
  check_bias(x, bias);
  return {x, bias, activation, true};
}

}  // namespace

std::string activation_unsupported(const at::Tensor& x, const at::Tensor& bias) {
  if (auto reason = cpu_kernel_unsupported(x, "x"); !reason.empty()) return reason;
  if (!bias.defined()) return {};
  if (auto reason = cpu_kernel_unsupported(bias, "bias"); !reason.empty()) return reason;
  return bias.scalar_type() == x.scalar_type() ? "" : "bias and x have different dtypes";
}

bool takes_bias(const at::Tensor& x) { return x.is_cpu() || cuda_kernel_reasons(x, "x").empty(); }

at::Tensor activate_reference(const at::Tensor& x, Activation activation, const at::Tensor& bias) {
  return apply(bias.defined() ? x + bias : x, activation);
}

at::Tensor glu_reference(const at::Tensor& x, Activation activation, const at::Tensor& bias) {
  const auto halves = (bias.defined() ? x + bias : x).chunk(2, -1);
  return halves[0] * apply(halves[1], activation);
}

at::Tensor activate(const at::Tensor& x, Activation activation, const at::Tensor& bias) {
  const auto call = activate_call(x, activation, bias);
  if (activation == Activation::identity && !bias.defined()) return x;
  return activation_engines().run(call);
}

at::Tensor activate_on(const std::string& engine, const at::Tensor& x, Activation activation,
                       const at::Tensor& bias) {
  return activation_engines().run_on(engine, activate_call(x, activation, bias));
}

std::vector<EngineReport> explain_activate(const at::Tensor& x, Activation activation,
                                           const at::Tensor& bias) {
  return activation_engines().explain(activate_call(x, activation, bias));
}

at::Tensor glu(const at::Tensor& x, Activation activation, const at::Tensor& bias) {
  return activation_engines().run(glu_call(x, activation, bias));
}

at::Tensor glu_on(const std::string& engine, const at::Tensor& x, Activation activation,
                  const at::Tensor& bias) {
  return activation_engines().run_on(engine, glu_call(x, activation, bias));
}

std::vector<EngineReport> explain_glu(const at::Tensor& x, Activation activation,
                                      const at::Tensor& bias) {
  return activation_engines().explain(glu_call(x, activation, bias));
}

}  // namespace x_transformers
