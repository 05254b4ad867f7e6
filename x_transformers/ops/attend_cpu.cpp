#include "x_transformers/ops/attend_cpu.h"

#include <ATen/ATen.h>

#include "x_transformers/core/error.h"
#include "x_transformers/kernels/cpu/attention.h"
#include "x_transformers/ops/fast_path.h"

namespace x_transformers {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

template <class T, class Data>
kernels::HeadRows<T> head_rows(const at::Tensor& t, Data* data) {
  return {static_cast<T*>(data), t.stride(0), t.stride(1), t.stride(2)};
}

kernels::HeadRows<const float> rows_of(const at::Tensor& t) {
  return head_rows<const float>(t, t.const_data_ptr<float>());
}

kernels::HeadRows<float> rows_to(const at::Tensor& t) {
  return head_rows<float>(t, t.mutable_data_ptr<float>());
}

at::Tensor with_dense_features(const at::Tensor& t) {
  return t.stride(3) == 1 || t.numel() == 0 ? t : t.contiguous();
}

/// Empty [b, h, n, d] that lies in memory as [b, n, h, d].
at::Tensor empty_positions_first(at::IntArrayRef sizes, const at::TensorOptions& options) {
  return at::empty({sizes[0], sizes[2], sizes[1], sizes[3]}, options).transpose(1, 2);
}

at::Tensor empty_in_order_of(const at::Tensor& t) {
  if (t.is_contiguous() || t.stride(1) >= t.stride(2)) return at::empty(t.sizes(), t.options());
  return empty_positions_first(t.sizes(), t.options());
}

/// A mask or bias as a view [b, h, i, j] whose last dimension is dense; undefined stays undefined.
at::Tensor for_each_score(const at::Tensor& t, at::IntArrayRef sizes) {
  if (!t.defined()) return t;
  auto view = t;
  while (view.dim() < 4) view = view.unsqueeze(0);
  view = view.expand({view.size(0), view.size(1), view.size(2), sizes[3]});
  if (sizes[3] > 1 && view.stride(3) != 1) view = view.contiguous();
  return view.expand(sizes);
}

/// q, k, v with dense features and options with masks for each score.
struct Prepared {
  at::Tensor q, k, v;
  FlashAttentionCpuOptions options;
};

Prepared prepare(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                 const FlashAttentionCpuOptions& options) {
  Prepared p{with_dense_features(q), with_dense_features(k), with_dense_features(v), options};
  const std::vector<int64_t> sizes = {q.size(0), q.size(1), q.size(2), k.size(2)};
  p.options.bias = for_each_score(options.bias, sizes);
  p.options.mask = for_each_score(options.mask, sizes);
  if (options.alibi_slopes.defined()) p.options.alibi_slopes = options.alibi_slopes.contiguous();
  return p;
}

kernels::AttentionShape shape_of(const Prepared& p) {
  return {p.q.size(0), p.q.size(1), p.k.size(1), p.q.size(2),
          p.k.size(2), p.q.size(3), p.v.size(3)};
}

kernels::AttentionScores scores_of(const FlashAttentionCpuOptions& options) {
  kernels::AttentionScores scores;
  scores.scale = static_cast<float>(options.scale);
  if (options.bias.defined()) scores.bias = rows_of(options.bias);
  if (options.alibi_slopes.defined()) {
    scores.alibi_slopes = options.alibi_slopes.const_data_ptr<float>();
  }
  scores.softclamp = static_cast<float>(options.softclamp);
  if (options.mask.defined()) {
    const void* bytes = options.mask.const_data_ptr();
    scores.mask = head_rows<const uint8_t>(options.mask, static_cast<const uint8_t*>(bytes));
  }
  scores.causal = options.causal;
  return scores;
}

struct Attended {
  at::Tensor out;
  at::Tensor log_sum_exp;  ///< [b, h, i]
};

Attended run_forward(const Prepared& p, bool keep_log_sum_exp) {
  const auto shape = shape_of(p);
  Attended result;
  result.out = empty_positions_first({shape.batch, shape.heads, shape.queries, shape.value_dim},
                                     p.q.options());
  kernels::AttentionForward params;
  params.shape = shape;
  params.scores = scores_of(p.options);
  params.q = rows_of(p.q);
  params.k = rows_of(p.k);
  params.v = rows_of(p.v);
  params.out = rows_to(result.out);
  if (keep_log_sum_exp) {
    result.log_sum_exp = at::empty({shape.batch, shape.heads, shape.queries}, p.q.options());
    params.log_sum_exp = result.log_sum_exp.mutable_data_ptr<float>();
  }
  kernels::attention_forward(params);
  return result;
}

variable_list run_backward(const Prepared& p, const at::Tensor& out, const at::Tensor& log_sum_exp,
                           const at::Tensor& out_grad) {
  const auto shape = shape_of(p);
  if (shape.queries == 0 || shape.keys == 0) {
    return {at::zeros_like(p.q), at::zeros_like(p.k), at::zeros_like(p.v)};
  }
  const auto q_grad = empty_in_order_of(p.q);
  const auto k_grad = empty_in_order_of(p.k);
  const auto v_grad = empty_in_order_of(p.v);
  const auto dense_out_grad = with_dense_features(out_grad);
  kernels::AttentionBackward params;
  params.shape = shape;
  params.scores = scores_of(p.options);
  params.q = rows_of(p.q);
  params.k = rows_of(p.k);
  params.v = rows_of(p.v);
  params.out = rows_of(out);
  params.out_grad = rows_of(dense_out_grad);
  params.log_sum_exp = log_sum_exp.const_data_ptr<float>();
  params.q_grad = rows_to(q_grad);
  params.k_grad = rows_to(k_grad);
  params.v_grad = rows_to(v_grad);
  kernels::attention_backward(params);
  return {q_grad, k_grad, v_grad};
}

class FlashAttentionFunction : public torch::autograd::Function<FlashAttentionFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& v, const FlashAttentionCpuOptions& options) {
    const auto attended = run_forward({q, k, v, options}, true);
    ctx->save_for_backward({q, k, v, attended.out, attended.log_sum_exp, options.bias,
                            options.alibi_slopes, options.mask});
    ctx->saved_data["scale"] = options.scale;
    ctx->saved_data["softclamp"] = options.softclamp;
    ctx->saved_data["causal"] = options.causal;
    return attended.out;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& output_grads) {
    const auto saved = ctx->get_saved_variables();
    FlashAttentionCpuOptions options;
    options.scale = ctx->saved_data["scale"].toDouble();
    options.softclamp = ctx->saved_data["softclamp"].toDouble();
    options.causal = ctx->saved_data["causal"].toBool();
    options.bias = saved[5];
    options.alibi_slopes = saved[6];
    options.mask = saved[7];
    const variable_list inputs = {saved[0], saved[1], saved[2]};
    const auto reference = [&](const variable_list& in) {
      return flash_attention_cpu_reference(in[0], in[1], in[2], options);
    };
    auto gradients = at::GradMode::is_enabled()
                         ? differentiable_gradients(reference, inputs, output_grads[0])
                         : run_backward({inputs[0], inputs[1], inputs[2], options}, saved[3],
                                        saved[4], output_grads[0]);
    gradients.emplace_back();
    return gradients;
  }
};

std::string score_tensor_unsupported(const at::Tensor& t, const std::string& name,
                                     at::ScalarType dtype, at::IntArrayRef sizes) {
  if (!t.defined()) return {};
  if (!t.device().is_cpu()) return name + " is not on the CPU";
  if (t.scalar_type() != dtype) return name + " is not " + at::toString(dtype);
  if (t.requires_grad()) return name + " wants a gradient";
  if (t.dim() > static_cast<int64_t>(sizes.size())) return name + " has too many dimensions";
  for (int64_t i = 1; i <= t.dim(); ++i) {
    const int64_t size = t.size(t.dim() - i);
    if (size != 1 && size != sizes[sizes.size() - i]) return name + " does not fit the scores";
  }
  return {};
}

}  // namespace

std::string flash_attention_cpu_unsupported(const at::Tensor& q, const at::Tensor& k,
                                            const at::Tensor& v,
                                            const FlashAttentionCpuOptions& options) {
  const char* names[] = {"q", "k", "v"};
  const at::Tensor* tensors[] = {&q, &k, &v};
  for (int i = 0; i < 3; ++i) {
    if (auto reason = cpu_kernel_unsupported(*tensors[i], names[i]); !reason.empty()) return reason;
    if (tensors[i]->scalar_type() != at::kFloat) return std::string(names[i]) + " is not float32";
    if (tensors[i]->dim() != 4) return std::string(names[i]) + " is not [b, h, n, d]";
    if (tensors[i]->size(3) > kernels::kMostHeadFeatures) {
      return std::string(names[i]) + " has more than " +
             std::to_string(kernels::kMostHeadFeatures) + " features a head";
    }
  }
  const int64_t kv_heads = k.size(1);
  if (k.size(0) != q.size(0) || v.size(0) != q.size(0)) return "the batch sizes differ";
  if (v.size(1) != kv_heads || v.size(2) != k.size(2)) return "k and v do not fit each other";
  if (k.size(3) != q.size(3)) return "q and k have different features";
  if (kv_heads == 0 || q.size(1) % kv_heads != 0) return "kv heads do not divide the heads";
  if (options.softclamp < 0) return "softclamp is negative";
  const std::vector<int64_t> sizes = {q.size(0), q.size(1), q.size(2), k.size(2)};
  auto reason = score_tensor_unsupported(options.bias, "bias", at::kFloat, sizes);
  if (reason.empty()) {
    reason =
        score_tensor_unsupported(options.alibi_slopes, "alibi_slopes", at::kFloat, {q.size(1)});
  }
  if (reason.empty()) reason = score_tensor_unsupported(options.mask, "mask", at::kBool, sizes);
  return reason;
}

at::Tensor flash_attention_cpu(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                               const FlashAttentionCpuOptions& options) {
  const auto reason = flash_attention_cpu_unsupported(q, k, v, options);
  require(reason.empty(), "[flash_attention_cpu] " + reason);
  const auto p = prepare(q, k, v, options);
  if (records_gradient({p.q, p.k, p.v})) {
    return FlashAttentionFunction::apply(p.q, p.k, p.v, p.options);
  }
  return run_forward(p, false).out;
}

at::Tensor flash_attention_cpu_reference(const at::Tensor& q, const at::Tensor& k,
                                         const at::Tensor& v,
                                         const FlashAttentionCpuOptions& options) {
  const int64_t groups = q.size(1) / k.size(1), i = q.size(2), j = k.size(2);
  const auto keys = k.repeat({1, groups, 1, 1}), values = v.repeat({1, groups, 1, 1});
  auto scores = at::matmul(q, keys.transpose(2, 3)) * options.scale;
  if (options.bias.defined()) scores = scores + options.bias.to(scores.scalar_type());
  const auto key_positions = at::arange(j, q.options().dtype(at::kLong));
  const auto distance =
      key_positions - (at::arange(i, key_positions.options()) + (j - i)).unsqueeze(1);
  if (options.alibi_slopes.defined()) {
    const auto slopes = options.alibi_slopes.to(scores.scalar_type()).view({-1, 1, 1});
    scores = scores - slopes * distance.abs();
  }
  if (options.softclamp > 0) {
    scores = (scores / options.softclamp).tanh() * options.softclamp;
  }
  auto allowed = options.causal ? distance <= 0 : at::ones_like(distance, at::kBool);
  if (options.mask.defined()) allowed = allowed.logical_and(options.mask);
  // Rows without any key: finite on the way, so that no NaN reaches a gradient, then 0.
  const auto weights = scores.masked_fill(allowed.logical_not(), -1e30)
                           .softmax(-1)
                           .masked_fill(allowed.logical_not(), 0.0);
  return at::matmul(weights, values);
}

}  // namespace x_transformers
