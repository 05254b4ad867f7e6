#include "x_transformers/ops/norm.h"

#include <ATen/ATen.h>

#include <cmath>

#include "x_transformers/core/error.h"
#include "x_transformers/kernels/cpu/norm.h"
#include "x_transformers/kernels/cpu/row_chunks.h"
#include "x_transformers/ops/fast_path.h"

namespace x_transformers {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr double kLayerNormEpsilon = 1e-5;
constexpr double kLeastNorm = 1e-12;

/// Which norm, apart from the gain.
struct NormKind {
  bool centred = false;  ///< layer norm
  double scale = 1.0;    ///< l2 norms only
  double gamma_offset = 0.0;

  double epsilon() const { return centred ? kLayerNormEpsilon : kLeastNorm; }
};

/// The gain as kernels want it: float32 [dim], dense; undefined for none.
at::Tensor dense_weight(const std::optional<at::Tensor>& gamma, const NormKind& kind, int64_t dim) {
  if (!gamma.has_value()) return {};
  auto weight = gamma->detach().to(at::kFloat);
  if (kind.gamma_offset != 0.0) weight = weight + kind.gamma_offset;
  return weight.expand({dim}).contiguous();
}

const float* data_or_null(const at::Tensor& t) {
  return t.defined() ? t.const_data_ptr<float>() : nullptr;
}

struct NormResult {
  at::Tensor y, mean, inverse;
};

/// x dense, float32 or bfloat16.
NormResult run_forward(const at::Tensor& x, const at::Tensor& weight, const NormKind& kind,
                       bool keep_statistics) {
  NormResult result{at::empty_like(x), {}, {}};
  if (x.numel() == 0) return result;
  kernels::NormForward params;
  params.x = x.const_data_ptr();
  params.y = result.y.mutable_data_ptr();
  params.element = element_of(x);
  params.weight = data_or_null(weight);
  params.epsilon = static_cast<float>(kind.epsilon());
  params.scale = static_cast<float>(kind.scale);
  params.dim = x.size(-1);
  params.rows = x.numel() / params.dim;
  if (keep_statistics) {
    result.inverse = at::empty({params.rows}, at::kFloat);
    params.inverse = result.inverse.mutable_data_ptr<float>();
    if (kind.centred) {
      result.mean = at::empty({params.rows}, at::kFloat);
      params.mean = result.mean.mutable_data_ptr<float>();
    }
  }
  kind.centred ? kernels::layer_norm_forward(params) : kernels::l2_norm_forward(params);
  return result;
}

/// Adds up partial gradients [chunks, dim] to the shape and dtype of gamma.
at::Tensor sum_chunks(const at::Tensor& partial, const at::Tensor& gamma) {
  const auto summed = gamma.numel() == 1 ? partial.sum() : partial.sum(0);
  return summed.view_as(gamma).to(gamma.scalar_type());
}

class NormFunction : public torch::autograd::Function<NormFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x,
                            const std::optional<at::Tensor>& gamma, const NormKind& kind) {
    const auto weight = dense_weight(gamma, kind, x.size(-1));
    const auto result = run_forward(x, weight, kind, true);
    ctx->save_for_backward({x, gamma.value_or(at::Tensor()), weight, result.mean, result.inverse});
    ctx->saved_data["centred"] = kind.centred;
    ctx->saved_data["scale"] = kind.scale;
    ctx->saved_data["gamma_offset"] = kind.gamma_offset;
    return result.y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& output_grads) {
    const auto saved = ctx->get_saved_variables();
    const NormKind kind{ctx->saved_data["centred"].toBool(), ctx->saved_data["scale"].toDouble(),
                        ctx->saved_data["gamma_offset"].toDouble()};
    if (at::GradMode::is_enabled()) return with_graph(saved, kind, output_grads[0]);
    const auto &x = saved[0], &gamma = saved[1];
    const bool wants_gamma = gamma.defined() && ctx->needs_input_grad(1);
    const auto y_grad = output_grads[0].contiguous();
    const auto x_grad = at::empty_like(x);
    at::Tensor partial;
    kernels::NormBackward params;
    params.dim = x.size(-1);
    params.rows = x.numel() / std::max<int64_t>(1, params.dim);
    if (wants_gamma) {
      partial = at::empty({kernels::row_chunks(params.rows), params.dim}, at::kFloat);
      params.weight_grad = partial.mutable_data_ptr<float>();
    }
    if (x.numel() > 0) {
      params.x = x.const_data_ptr();
      params.y_grad = y_grad.const_data_ptr();
      params.x_grad = x_grad.mutable_data_ptr();
      params.element = element_of(x);
      params.weight = data_or_null(saved[2]);
      params.mean = data_or_null(saved[3]);
      params.inverse = data_or_null(saved[4]);
      params.epsilon = static_cast<float>(kind.epsilon());
      params.scale = static_cast<float>(kind.scale);
      kind.centred ? kernels::layer_norm_backward(params) : kernels::l2_norm_backward(params);
    }
    return {x_grad, wants_gamma ? sum_chunks(partial, gamma) : at::Tensor(), {}};
  }

 private:
  static variable_list with_graph(const variable_list& saved, const NormKind& kind,
                                  const at::Tensor& output_grad) {
    const auto reference = [&](const variable_list& inputs) {
      if (kind.centred) return layer_norm_reference(inputs[0], inputs[1], kind.gamma_offset);
      const auto unscaled = l2norm_reference(inputs[0], 1) * kind.scale;
      return inputs[1].defined() ? unscaled * (inputs[1] + kind.gamma_offset) : unscaled;
    };
    const auto gradients = differentiable_gradients(reference, {saved[0], saved[1]}, output_grad);
    return {gradients[0], gradients[1], {}};
  }
};

at::Tensor fused_norm(const at::Tensor& x, const at::Tensor& gamma, const NormKind& kind) {
  const auto gain = gamma.defined() ? std::optional(gamma) : std::nullopt;
  const auto dense = x.contiguous();
  if (records_gradient({dense, gamma})) return NormFunction::apply(dense, gain, kind);
  return run_forward(dense, dense_weight(gain, kind, x.size(-1)), kind, false).y;
}

/// CUDA's fused kernel divides by sqrt(|x|^2 + eps) in place of max(|x|, eps): equal in float32
/// unless |x| < 1e-9.
bool has_cuda_rms_norm(const at::Tensor& x, const at::Tensor& gamma) {
  if (!x.is_cuda() || !x.is_floating_point() || x.scalar_type() == at::kDouble) return false;
  return !gamma.defined() || (gamma.dim() == 1 && gamma.size(0) == x.size(-1) &&
                              gamma.scalar_type() == x.scalar_type());
}

at::Tensor cuda_rms_norm(const at::Tensor& x, const at::Tensor& weight) {
  const double epsilon = kLeastNorm * kLeastNorm / static_cast<double>(x.size(-1));
  const auto gain = weight.defined() ? std::optional(weight) : std::nullopt;
  return std::get<0>(at::_fused_rms_norm(x, {x.size(-1)}, gain, epsilon));
}

at::Tensor with_offset(const at::Tensor& gamma, double offset) {
  return gamma.defined() && offset != 0.0 ? gamma + offset : gamma;
}

void check_dim(const at::Tensor& x, const char* op) {
  require(x.defined() && x.dim() > 0,
          std::string("[") + op + "] expected a tensor with at least one dimension");
}

}  // namespace

std::string norm_unsupported(const at::Tensor& x, const at::Tensor& gamma) {
  if (auto reason = cpu_kernel_unsupported(x, "x"); !reason.empty()) return reason;
  if (x.dim() == 0 || x.size(-1) == 0) return "x has no features";
  if (!gamma.defined()) return {};
  if (auto reason = cpu_kernel_unsupported(gamma, "gamma"); !reason.empty()) return reason;
  if (gamma.scalar_type() != x.scalar_type()) return "gamma and x have different dtypes";
  if (gamma.dim() != 1 || (gamma.size(0) != 1 && gamma.size(0) != x.size(-1))) {
    return "gamma is neither [dim] nor [1]";
  }
  return {};
}

at::Tensor layer_norm_reference(const at::Tensor& x, const at::Tensor& gamma, double gamma_offset) {
  return at::layer_norm(x, {x.size(-1)}, with_offset(gamma, gamma_offset), {}, kLayerNormEpsilon);
}

at::Tensor l2norm_reference(const at::Tensor& x, int64_t groups) {
  const auto grouped = groups == 1 ? x : x.unflatten(-1, {groups, x.size(-1) / groups});
  const auto norm = at::linalg_vector_norm(grouped, 2, {-1}, /*keepdim=*/true);
  const auto normed = grouped / norm.clamp_min(kLeastNorm);
  return groups == 1 ? normed : normed.flatten(-2);
}

at::Tensor rms_norm_reference(const at::Tensor& x, const at::Tensor& gamma, double gamma_offset) {
  const auto normed = l2norm_reference(x, 1) * std::sqrt(static_cast<double>(x.size(-1)));
  return gamma.defined() ? normed * with_offset(gamma, gamma_offset) : normed;
}

at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& gamma, double gamma_offset) {
  check_dim(x, "layer_norm");
  if (!norm_unsupported(x, gamma).empty()) return layer_norm_reference(x, gamma, gamma_offset);
  return fused_norm(x, gamma, {true, 1.0, gamma_offset});
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& gamma, double gamma_offset) {
  check_dim(x, "rms_norm");
  const double scale = std::sqrt(static_cast<double>(x.size(-1)));
  if (norm_unsupported(x, gamma).empty()) return fused_norm(x, gamma, {false, scale, gamma_offset});
  if (gamma.defined() && norm_unsupported(x).empty()) {  // a gain of a shape of its own
    return fused_norm(x, {}, {false, scale, 0.0}) * with_offset(gamma, gamma_offset);
  }
  if (has_cuda_rms_norm(x, gamma)) return cuda_rms_norm(x, with_offset(gamma, gamma_offset));
  return rms_norm_reference(x, gamma, gamma_offset);
}

at::Tensor l2norm(const at::Tensor& x, int64_t groups) {
  check_dim(x, "l2norm");
  require(groups > 0 && x.size(-1) % groups == 0,
          "[l2norm] expected groups that divide the last dimension " + std::to_string(x.size(-1)) +
              ", got " + std::to_string(groups));
  if (!norm_unsupported(x).empty()) return l2norm_reference(x, groups);
  if (groups == 1) return fused_norm(x, {}, {false, 1.0, 0.0});
  const auto grouped = x.unflatten(-1, {groups, x.size(-1) / groups});
  return fused_norm(grouped, {}, {false, 1.0, 0.0}).flatten(-2);
}

}  // namespace x_transformers
