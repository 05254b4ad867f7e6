#include "x_transformers/ops/norm.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "x_transformers/core/error.h"
#include "x_transformers/kernels/cpu/norm.h"
#include "x_transformers/kernels/cpu/row_chunks.h"
#include "x_transformers/ops/column_sums.h"
#include "x_transformers/ops/cuda_launchers.h"
#include "x_transformers/ops/cuda_tensors.h"
#include "x_transformers/ops/engines.h"
#include "x_transformers/ops/fast_path.h"
#include "x_transformers/ops/kernel_tensors.h"

namespace x_transformers {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Which norm, apart from the gain.
struct NormKind {
  bool centred = false;  ///< layer norm
  double scale = 1.0;    ///< l2 norms only
  double gamma_offset = 0.0;
  double least = kMinNorm;  ///< l2 norms only: a smaller norm counts as this

  double epsilon() const { return centred ? kLayerNormEpsilon : least; }
};

struct NormCall {
  const at::Tensor &x, &gamma;
  NormKind kind;
};

using NormEngines = Engines<NormCall, at::Tensor>;

/// gamma is dense or undefined.
kernels::NormGain gain_of(const at::Tensor& gamma, const NormKind& kind) {
  if (!gamma.defined()) return {};
  return {gamma.const_data_ptr(), static_cast<float>(kind.gamma_offset), gamma.numel() == 1};
}

void launch(const kernels::NormForward& params, const NormKind& kind, const at::Device& device) {
  if (device.is_cuda()) {
    const auto& launchers = *our_cuda_kernels().launchers;
    const auto run = kind.centred ? launchers.layer_norm_forward : launchers.l2_norm_forward;
    run(params, device.index());
  } else {
    kind.centred ? kernels::layer_norm_forward(params) : kernels::l2_norm_forward(params);
  }
}

void launch(const kernels::NormBackward& params, const NormKind& kind, const at::Device& device) {
  if (device.is_cuda()) {
    const auto& launchers = *our_cuda_kernels().launchers;
    const auto run = kind.centred ? launchers.layer_norm_backward : launchers.l2_norm_backward;
    run(params, device.index());
  } else {
    kind.centred ? kernels::layer_norm_backward(params) : kernels::l2_norm_backward(params);
  }
}

int64_t chunks_of(int64_t rows, int64_t dim, const at::Device& device) {
  return device.is_cuda() ? our_cuda_kernels().launchers->norm_chunks(rows, dim)
                          : kernels::row_chunks(rows);
}

struct NormResult {
  at::Tensor y, mean, inverse;
};

/// The rows of x are dense in any order, gamma is dense or undefined.
NormResult run_forward(const at::Tensor& x, const at::Tensor& gamma, const NormKind& kind,
                       bool keep_statistics) {
  NormResult result{at::empty_like(x), {}, {}};
  if (x.numel() == 0) return result;
  kernels::NormForward params;
  params.x = x.const_data_ptr();
  params.y = result.y.mutable_data_ptr();
  params.element = element_of(x);
  params.gain = gain_of(gamma, kind);
  params.epsilon = static_cast<float>(kind.epsilon());
  params.scale = static_cast<float>(kind.scale);
  params.dim = x.size(-1);
  params.rows = x.numel() / params.dim;
  if (keep_statistics) {
    const auto floats = x.options().dtype(at::kFloat);
    result.inverse = at::empty({params.rows}, floats);
    if (kind.centred) result.mean = at::empty({params.rows}, floats);
    params.inverse = mutable_data_or_null(result.inverse);
    params.mean = mutable_data_or_null(result.mean);
  }
  launch(params, kind, x.device());
  return result;
}

/// Adds up partial gradients [chunks, dim] to the shape and dtype of gamma.
at::Tensor sum_chunks(const at::Tensor& partial, const at::Tensor& gamma) {
  const auto dtype = gamma.scalar_type();
  if (gamma.numel() == 1) return partial.sum().view_as(gamma).to(dtype);
  return column_sums(partial, dtype).view_as(gamma);
}

/// x / max(|x|, least)
at::Tensor over_norm(const at::Tensor& x, double least) {
  return x / at::linalg_vector_norm(x, 2, {-1}, /*keepdim=*/true).clamp_min(least);
}

/// Gives normalised x, and x once more where it is `beside`.
class NormFunction : public torch::autograd::Function<NormFunction> {
 public:
  static variable_list forward(AutogradContext* ctx, const at::Tensor& x,
                               const std::optional<at::Tensor>& gamma, const NormKind& kind,
                               bool beside) {
    const auto result =
        run_forward(x, dense(gamma.value_or(at::Tensor())), kind, /*keep_statistics=*/true);
    ctx->save_for_backward({x, gamma.value_or(at::Tensor()), result.mean, result.inverse});
    ctx->set_materialize_grads(false);
    ctx->saved_data["centred"] = kind.centred;
    ctx->saved_data["scale"] = kind.scale;
    ctx->saved_data["gamma_offset"] = kind.gamma_offset;
    ctx->saved_data["least"] = kind.least;
    return beside ? variable_list{result.y, x} : variable_list{result.y};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& output_grads) {
    const auto saved = ctx->get_saved_variables();
    const NormKind kind{ctx->saved_data["centred"].toBool(), ctx->saved_data["scale"].toDouble(),
                        ctx->saved_data["gamma_offset"].toDouble(),
                        ctx->saved_data["least"].toDouble()};
    const auto other = output_grads.size() > 1 ? output_grads[1] : at::Tensor();
    if (!output_grads[0].defined()) return {other, {}, {}, {}};
    if (at::GradMode::is_enabled()) return with_graph(saved, kind, output_grads[0], other);
    const auto &x = saved[0], &gamma = saved[1];
    const bool wants_gamma = gamma.defined() && ctx->needs_input_grad(1);
    at::Tensor gamma_grad;
    const auto y_grad = in_memory_like(output_grads[0], x), dense_gamma = dense(gamma);
    const auto other_grad = other.defined() ? in_memory_like(other, x) : other;
    const auto x_grad = at::empty_like(x);
    at::Tensor partial;
    kernels::NormBackward params;
    params.dim = x.size(-1);
    params.rows = x.numel() / std::max<int64_t>(1, params.dim);
    params.chunks = chunks_of(params.rows, params.dim, x.device());
    if (wants_gamma && x.numel() == 0) {
      gamma_grad = at::zeros_like(gamma);
    } else if (wants_gamma && params.chunks == 0) {
      gamma_grad = at::empty(gamma.sizes(), gamma.options());
      params.whole_weight_grad = gamma_grad.mutable_data_ptr();
    } else if (wants_gamma) {
      partial = at::empty({params.chunks, params.dim}, x.options().dtype(at::kFloat));
      params.weight_grad = partial.mutable_data_ptr<float>();
    }
    if (x.numel() > 0) {
      params.x = x.const_data_ptr();
      params.y_grad = y_grad.const_data_ptr();
      if (other_grad.defined()) params.other_grad = other_grad.const_data_ptr();
      params.x_grad = x_grad.mutable_data_ptr();
      params.element = element_of(x);
      params.gain = gain_of(dense_gamma, kind);
      params.mean = data_or_null(saved[2]);
      params.inverse = data_or_null(saved[3]);
      params.epsilon = static_cast<float>(kind.epsilon());
      params.scale = static_cast<float>(kind.scale);
      launch(params, kind, x.device());
    }
    if (partial.defined()) gamma_grad = sum_chunks(partial, gamma);
    return {x_grad, gamma_grad, {}, {}};
  }

 private:
  static at::Tensor dense(const at::Tensor& gamma) {
    return gamma.defined() ? gamma.contiguous() : gamma;
  }

  static variable_list with_graph(const variable_list& saved, const NormKind& kind,
                                  const at::Tensor& output_grad, const at::Tensor& other_grad) {
    const auto reference = [&](const variable_list& inputs) {
      if (kind.centred) return layer_norm_reference(inputs[0], inputs[1], kind.gamma_offset);
      const auto unscaled = over_norm(inputs[0], kind.least) * kind.scale;
      return inputs[1].defined() ? unscaled * (inputs[1] + kind.gamma_offset) : unscaled;
    };
    const auto gradients = differentiable_gradients(reference, {saved[0], saved[1]}, output_grad);
    const auto x_grad = other_grad.defined() ? gradients[0] + other_grad : gradients[0];
    return {x_grad, gradients[1], {}, {}};
  }
};

/// By a kernel of ours, on the CPU or on CUDA.
at::Tensor fused_norm(const NormCall& call) {
  const auto& gamma = call.gamma;
  const auto x = with_dense_rows_in_any_order(call.x);
  if (records_gradient({x, gamma})) {
    return NormFunction::apply(x, gamma.defined() ? std::optional(gamma) : std::nullopt, call.kind,
                               /*beside=*/false)[0];
  }
  return run_forward(x, gamma.defined() ? gamma.contiguous() : gamma, call.kind,
                     /*keep_statistics=*/false)
      .y;
}

Reasons cpu_reasons(const NormCall& call) { return Reasons(norm_unsupported(call.x, call.gamma)); }

Reasons cuda_reasons(const NormCall& call) {
  const auto &x = call.x, &gamma = call.gamma;
  auto reasons = cuda_kernel_reasons(x, "x");
  if (!x.is_cuda()) return reasons;
  reasons.add_if(x.dim() == 0 || x.size(-1) == 0 || x.size(-1) > kernels::kMaxCudaNormFeatures,
                 "no or too many features");
  if (!gamma.defined()) return reasons;
  add_unlike(reasons, x, gamma, "gamma");
  reasons.add_if(gamma.dim() != 1 || gamma.size(0) != x.size(-1), "gamma is not [dim]");
  return reasons;
}

/// CUDA's fused kernel divides by sqrt(|x|^2 + eps) in place of max(|x|, eps): equal in float32
/// unless |x| < 1e-9.
Reasons aten_reasons(const NormCall& call) {
  const auto &x = call.x, &gamma = call.gamma;
  Reasons reasons;
  reasons.add_if(!x.is_cuda() || !x.is_floating_point() || x.scalar_type() == at::kDouble,
                 "x is not on a CUDA device in float32 or less");
  reasons.add_if(gamma.defined() && (gamma.dim() != 1 || gamma.size(0) != x.size(-1) ||
                                     gamma.scalar_type() != x.scalar_type()),
                 "gamma is not [dim] of the dtype of x");
  return reasons;
}

at::Tensor with_offset(const at::Tensor& gamma, double offset) {
  return gamma.defined() && offset != 0.0 ? gamma + offset : gamma;
}

/// rms_norm by LibTorch's kernel.
at::Tensor aten_rms_norm(const NormCall& call) {
  const auto& x = call.x;
  const double epsilon = kMinNorm * kMinNorm / static_cast<double>(x.size(-1));
  const auto weight = with_offset(call.gamma, call.kind.gamma_offset);
  const auto gain = weight.defined() ? std::optional(weight) : std::nullopt;
  return std::get<0>(at::_fused_rms_norm(x, {x.size(-1)}, gain, epsilon));
}

/// A gain of a shape of its own, such as one for each head, after the kernel.
Reasons gain_apart_reasons(const NormCall& call) {
  Reasons reasons(norm_unsupported(call.x));
  reasons.add_if(!call.gamma.defined(), "there is no gain");
  return reasons;
}

at::Tensor norm_then_gain(const NormCall& call) {
  const at::Tensor none;
  return fused_norm({call.x, none, {false, call.kind.scale, 0.0}}) *
         with_offset(call.gamma, call.kind.gamma_offset);
}

Reasons no_reasons(const NormCall&) { return {}; }

const NormEngines& layer_norm_engines() {
  static const NormEngines all({{"cpu", cpu_reasons, fused_norm},
                                {"cuda", cuda_reasons, fused_norm},
                                {"reference", no_reasons, [](const NormCall& call) {
                                   return layer_norm_reference(call.x, call.gamma,
                                                               call.kind.gamma_offset);
                                 }}});
  return all;
}

const NormEngines& rms_norm_engines() {
  static const NormEngines all({{"cpu", cpu_reasons, fused_norm},
                                {"cpu_gain_apart", gain_apart_reasons, norm_then_gain},
                                {"cuda", cuda_reasons, fused_norm},
                                {"aten_cuda", aten_reasons, aten_rms_norm},
                                {"reference", no_reasons, [](const NormCall& call) {
                                   return rms_norm_reference(call.x, call.gamma,
                                                             call.kind.gamma_offset);
                                 }}});
  return all;
}

/// Of rows, not groups.
const NormEngines& l2norm_engines() {
  static const NormEngines all({{"cpu", cpu_reasons, fused_norm},
                                {"cuda", cuda_reasons, fused_norm},
                                {"reference", no_reasons, [](const NormCall& call) {
                                   return l2norm_reference(call.x, 1);
                                 }}});
  return all;
}

double root_of_dim(const at::Tensor& x) { return std::sqrt(static_cast<double>(x.size(-1))); }

NormKind scale_kind(const at::Tensor& x, double eps) {
  return {false, root_of_dim(x), 0.0, eps * root_of_dim(x)};
}

/// The gain of all features at once, as CUDA's kernel has one for each.
at::Tensor gain_of_each(const NormCall& call) { return call.gamma.expand({call.x.size(-1)}); }

Reasons one_gain_on_cuda_reasons(const NormCall& call) {
  if (call.gamma.numel() != 1 || call.x.dim() == 0) return Reasons("gamma is not one number");
  const auto gain = gain_of_each(call);
  return cuda_reasons({call.x, gain, call.kind});
}

at::Tensor norm_with_one_gain(const NormCall& call) {
  const auto gain = gain_of_each(call);
  return fused_norm({call.x, gain, call.kind});
}

const NormEngines& scale_norm_engines() {
  static const NormEngines all({{"cpu", cpu_reasons, fused_norm},
                                {"cuda", one_gain_on_cuda_reasons, norm_with_one_gain},
                                {"reference", no_reasons, [](const NormCall& call) {
                                   return over_norm(call.x, call.kind.least) *
                                          (call.gamma * call.kind.scale);
                                 }}});
  return all;
}

void check_dim(const at::Tensor& x, const char* op) {
  require(x.defined() && x.dim() > 0,
          std::string("[") + op + "] expected a tensor with at least one dimension");
}

NormCall layer_norm_call(const at::Tensor& x, const at::Tensor& gamma, double gamma_offset) {
  check_dim(x, "layer_norm");
  require(!gamma.defined() || (gamma.dim() == 1 && gamma.size(0) == x.size(-1)),
          "[layer_norm] expected a gain for each of " + std::to_string(x.size(-1)) + " features");
  return {x, gamma, {true, 1.0, gamma_offset}};
}

NormCall rms_norm_call(const at::Tensor& x, const at::Tensor& gamma, double gamma_offset) {
  check_dim(x, "rms_norm");
  return {x, gamma, {false, root_of_dim(x), gamma_offset}};
}

/// What `use` makes of the call of l2norm on x, whose groups are rows of their own.
template <class Use>
auto with_l2norm_call(const at::Tensor& x, int64_t groups, const Use& use) {
  check_dim(x, "l2norm");
  require(groups > 0 && x.size(-1) % groups == 0,
          "[l2norm] expected groups that divide the last dimension " + std::to_string(x.size(-1)) +
              ", got " + std::to_string(groups));
  const at::Tensor no_gain;
  const auto rows = groups == 1 ? x : x.unflatten(-1, {groups, x.size(-1) / groups});
  return use(NormCall{rows, no_gain, {false, 1.0, 0.0}});
}

at::Tensor joined_groups(const at::Tensor& y, int64_t groups) {
  return groups == 1 ? y : y.flatten(-2);
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
  const auto normed = over_norm(grouped, kMinNorm);
  return groups == 1 ? normed : normed.flatten(-2);
}

at::Tensor rms_norm_reference(const at::Tensor& x, const at::Tensor& gamma, double gamma_offset) {
  const auto normed = l2norm_reference(x, 1) * std::sqrt(static_cast<double>(x.size(-1)));
  return gamma.defined() ? normed * with_offset(gamma, gamma_offset) : normed;
}

at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& gamma, double gamma_offset) {
  return layer_norm_engines().run(layer_norm_call(x, gamma, gamma_offset));
}

at::Tensor layer_norm_on(const std::string& engine, const at::Tensor& x, const at::Tensor& gamma,
                         double gamma_offset) {
  return layer_norm_engines().run_on(engine, layer_norm_call(x, gamma, gamma_offset));
}

std::vector<EngineReport> explain_layer_norm(const at::Tensor& x, const at::Tensor& gamma) {
  return layer_norm_engines().explain(layer_norm_call(x, gamma, 0.0));
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& gamma, double gamma_offset) {
  return rms_norm_engines().run(rms_norm_call(x, gamma, gamma_offset));
}

at::Tensor rms_norm_on(const std::string& engine, const at::Tensor& x, const at::Tensor& gamma,
                       double gamma_offset) {
  return rms_norm_engines().run_on(engine, rms_norm_call(x, gamma, gamma_offset));
}

std::vector<EngineReport> explain_rms_norm(const at::Tensor& x, const at::Tensor& gamma) {
  return rms_norm_engines().explain(rms_norm_call(x, gamma, 0.0));
}

at::Tensor normalised(const at::Tensor& x, const RowNorm& norm) {
  return norm.kind == RowNorm::Kind::layer ? layer_norm(x, norm.gamma, norm.gamma_offset)
                                           : rms_norm(x, norm.gamma, norm.gamma_offset);
}

NormedBeside norm_beside(const at::Tensor& x, const RowNorm& norm) {
  const auto call = norm.kind == RowNorm::Kind::layer
                        ? layer_norm_call(x, norm.gamma, norm.gamma_offset)
                        : rms_norm_call(x, norm.gamma, norm.gamma_offset);
  const bool fuses = x.is_cuda() && records_gradient({x}) && cuda_reasons(call).empty() &&
                     with_dense_rows_in_any_order(x).is_same(x);
  if (!fuses) return {normalised(x, norm), x};
  const auto gamma = norm.gamma.defined() ? std::optional(norm.gamma) : std::nullopt;
  const auto both = NormFunction::apply(x, gamma, call.kind, /*beside=*/true);
  return {both[0], both[1]};
}

at::Tensor scale_norm(const at::Tensor& x, const at::Tensor& gamma, double eps) {
  check_dim(x, "scale_norm");
  return scale_norm_engines().run({x, gamma, scale_kind(x, eps)});
}

at::Tensor scale_norm_reference(const at::Tensor& x, const at::Tensor& gamma, double eps) {
  return scale_norm_engines().run_on("reference", {x, gamma, scale_kind(x, eps)});
}

at::Tensor l2norm(const at::Tensor& x, int64_t groups) {
  return with_l2norm_call(x, groups, [&](const NormCall& call) {
    return joined_groups(l2norm_engines().run(call), groups);
  });
}

at::Tensor l2norm_on(const std::string& engine, const at::Tensor& x, int64_t groups) {
  return with_l2norm_call(x, groups, [&](const NormCall& call) {
    return joined_groups(l2norm_engines().run_on(engine, call), groups);
  });
}

std::vector<EngineReport> explain_l2norm(const at::Tensor& x, int64_t groups) {
  return with_l2norm_call(x, groups,
                          [](const NormCall& call) { return l2norm_engines().explain(call); });
}

}  // namespace x_transformers
