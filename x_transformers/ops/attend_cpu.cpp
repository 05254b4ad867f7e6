#include "x_transformers/ops/attend_cpu.h"
#include "x_transformers/ops/heads_of_tokens.h"

#include <ATen/ATen.h>
#include <ATen/ExpandUtils.h>
#include <ATen/Parallel.h>
#include <torch/custom_class.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/kernels/cpu/attention.h"
#include "x_transformers/ops/attend.h"
#include "x_transformers/ops/fast_path.h"
#include "x_transformers/ops/kernel_tensors.h"
#include "x_transformers/ops/onednn_product.h"

namespace x_transformers {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

template <class T, class Data>
kernels::HeadRows<T> head_rows(const at::Tensor& t, Data* data) {
  return {static_cast<T*>(data), t.stride(0), t.stride(1), t.stride(2)};
}

kernels::HeadRows<const float> head_rows_of(const at::Tensor& t) {
  return head_rows<const float>(t, t.const_data_ptr<float>());
}

kernels::HeadRows<float> rows_to(const at::Tensor& t) {
  return head_rows<float>(t, t.mutable_data_ptr<float>());
}

at::Tensor empty_in_order_of(const at::Tensor& t) {
  if (t.is_contiguous() || t.stride(1) >= t.stride(2)) return at::empty(t.sizes(), t.options());
  return empty_positions_first_like(t);
}

at::Tensor with_four_dimensions(const at::Tensor& t) {
  auto view = t;
  while (view.dim() < 4) view = view.unsqueeze(0);
  return view;
}

/// A mask or bias as a view [b, h, i, j] whose last dimension is dense; undefined stays undefined.
at::Tensor for_each_score(const at::Tensor& t, at::IntArrayRef sizes) {
  if (!t.defined()) return t;
  auto view = with_four_dimensions(t);
  view = view.expand({view.size(0), view.size(1), view.size(2), sizes[3]});
  if (sizes[3] > 1 && view.stride(3) != 1) view = view.contiguous();
  return view.expand(sizes);
}

/// bfloat16 as float32, in which the kernel computes.
at::Tensor wide(const at::Tensor& t) {
  return t.defined() && t.scalar_type() == at::kBFloat16 ? t.to(at::kFloat) : t;
}

/// A gradient in the type of what it is of; undefined stays undefined.
at::Tensor as_type_of(const at::Tensor& like, const at::Tensor& gradient) {
  return gradient.defined() ? gradient.to(like.scalar_type()) : gradient;
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
  const auto values = [](const at::Tensor& t) { return t.defined() ? wide(t.detach()) : t; };
  const auto dense = [&](const at::Tensor& t) { return t.defined() ? values(t).contiguous() : t; };
  p.options.bias = for_each_score(values(options.bias), sizes);
  p.options.mask = for_each_score(options.mask, sizes);
  p.options.alibi_slopes = dense(options.alibi_slopes);
  p.options.sinks = dense(options.sinks);
  return p;
}

/// With q, k and v as the kernel takes them.
Prepared widened(Prepared p) {
  p.q = wide(p.q);
  p.k = wide(p.k);
  p.v = wide(p.v);
  return p;
}

kernels::AttentionShape shape_of(const Prepared& p) {
  return {p.q.size(0), p.q.size(1), p.k.size(1), p.q.size(2),
          p.k.size(2), p.q.size(3), p.v.size(3)};
}

kernels::AttentionScores scores_of(const FlashAttentionCpuOptions& options) {
  kernels::AttentionScores scores;
  scores.scale = static_cast<float>(options.scale);
  if (options.bias.defined()) scores.bias = head_rows_of(options.bias);
  if (options.alibi_slopes.defined()) {
    scores.alibi_slopes = options.alibi_slopes.const_data_ptr<float>();
  }
  scores.softclamp = static_cast<float>(options.softclamp);
  scores.cog_signed = options.cog_signed;
  if (options.mask.defined()) {
    const void* bytes = options.mask.const_data_ptr();
    scores.mask = head_rows<const uint8_t>(options.mask, static_cast<const uint8_t*>(bytes));
  }
  scores.causal = options.causal;
  if (options.sinks.defined()) scores.sinks = options.sinks.const_data_ptr<float>();
  scores.gumbel = options.gumbel;
  scores.temperature = static_cast<float>(options.temperature);
  scores.sigmoid = options.sigmoid;
  scores.hard = options.hard;
  scores.dropout = options.dropout;
  scores.seed = static_cast<uint64_t>(options.seed);
  return scores;
}

struct Attended {
  at::Tensor out;
  at::Tensor softmax;   ///< [b, h, i, 2]: the kernel's SoftmaxState of each query
  at::Tensor soft_out;  ///< the output that the softmax has: with hard not out
  at::Tensor chosen;    ///< int32 [b, h, i], with hard
};

/// `for_backward`: with all members, else only the output.
Attended run_forward(const Prepared& p, bool for_backward) {
  const auto shape = shape_of(p);
  Attended result;
  result.out = empty_positions_first({shape.batch, shape.heads, shape.queries, shape.value_dim},
                                     p.q.options());
  kernels::AttentionForward params;
  params.shape = shape;
  params.scores = scores_of(p.options);
  params.q = head_rows_of(p.q);
  params.k = head_rows_of(p.k);
  params.v = head_rows_of(p.v);
  params.out = rows_to(result.out);
  const std::vector<int64_t> rows = {shape.batch, shape.heads, shape.queries};
  if (for_backward) {
    result.softmax = at::empty({shape.batch, shape.heads, shape.queries, 2}, p.q.options());
    params.softmax = static_cast<kernels::SoftmaxState*>(result.softmax.mutable_data_ptr());
    result.soft_out = result.out;
  }
  if (for_backward && p.options.hard) {
    result.soft_out = at::empty_like(result.out);
    params.soft_out = rows_to(result.soft_out);
    result.chosen = at::empty(rows, p.q.options().dtype(at::kInt));
    params.chosen = result.chosen.mutable_data_ptr<int32_t>();
  }
  kernels::attention_forward(params);
  return result;
}

/// The sum over what a bias was broadcast over, gathered while the scores are there.
class BiasGradient {
 public:
  /// `bias` as it was given, undefined where no gradient is wanted.
  BiasGradient(const at::Tensor& bias, const kernels::AttentionShape& shape) : bias_(bias) {
    if (!bias.defined()) return;
    const auto given = with_four_dimensions(bias);
    // Entries of a batch that share a bias are summed one after the other, by as many threads as
    // the heads leave idle.
    const auto idle = std::clamp<int64_t>(at::get_num_threads() / shape.kv_heads, 1, shape.batch);
    slices_ = given.size(0) == shape.batch ? shape.batch : idle;
    sums_ = at::zeros({slices_, given.size(1), given.size(2), shape.keys}, bias.options());
    rows_ = sums_.expand({slices_, shape.heads, shape.queries, shape.keys});
  }
  void request(kernels::AttentionBackward& params) const {
    if (!bias_.defined()) return;
    params.bias_grad = rows_to(rows_);
    params.bias_slices = slices_;
  }
  at::Tensor result() const {
    if (!bias_.defined()) return {};
    const bool shared = slices_ > 1 && with_four_dimensions(bias_).size(0) == 1;
    return at::sum_to(shared ? sums_.sum(0, true) : sums_, bias_.sizes());
  }

 private:
  at::Tensor bias_, sums_, rows_;
  int64_t slices_ = 1;
};

/// A sink has a share of each softmax and no value: its gradient is minus that share times the mean
/// gradient of the weights.
at::Tensor sink_gradient(const at::Tensor& sinks, const Attended& attended,
                         const at::Tensor& out_grad) {
  const auto maximum = attended.softmax.select(-1, 0), inverse = attended.softmax.select(-1, 1);
  const auto share = (sinks.view({-1, 1}) - maximum).exp_().mul_(inverse);
  return (share * (attended.soft_out * out_grad).sum(-1)).sum(at::IntArrayRef{0, 2}).neg_();
}

/// Gradients by q, k, v, `bias` and the sinks; the last two undefined where not wanted.
variable_list run_backward(const Prepared& p, const Attended& attended, const at::Tensor& bias,
                           bool wants_sinks, const at::Tensor& out_grad) {
  const auto shape = shape_of(p);
  if (shape.queries == 0 || shape.keys == 0 || shape.batch == 0) {
    return {at::zeros_like(p.q), at::zeros_like(p.k), at::zeros_like(p.v),
            bias.defined() ? at::zeros_like(bias) : bias,
            wants_sinks ? at::zeros_like(p.options.sinks) : at::Tensor()};
  }
  const auto q_grad = empty_in_order_of(p.q);
  const auto k_grad = empty_in_order_of(p.k);
  const auto v_grad = empty_in_order_of(p.v);
  const auto dense_out_grad = with_dense_features(out_grad);
  const BiasGradient bias_gradient(bias, shape);
  kernels::AttentionBackward params;
  params.shape = shape;
  params.scores = scores_of(p.options);
  params.q = head_rows_of(p.q);
  params.k = head_rows_of(p.k);
  params.v = head_rows_of(p.v);
  params.out = head_rows_of(attended.soft_out);
  if (attended.chosen.defined()) params.chosen = attended.chosen.const_data_ptr<int32_t>();
  params.out_grad = head_rows_of(dense_out_grad);
  params.softmax = static_cast<const kernels::SoftmaxState*>(attended.softmax.const_data_ptr());
  params.q_grad = rows_to(q_grad);
  params.k_grad = rows_to(k_grad);
  params.v_grad = rows_to(v_grad);
  bias_gradient.request(params);
  kernels::attention_backward(params);
  return {q_grad, k_grad, v_grad, bias_gradient.result(),
          wants_sinks ? sink_gradient(p.options.sinks, attended, out_grad) : at::Tensor()};
}

/// The options less their tensors, which autograd keeps as it keeps the inputs.
struct Numbers : torch::CustomClassHolder {
  explicit Numbers(FlashAttentionCpuOptions given) : options(std::move(given)) {
    options.bias = options.alibi_slopes = options.mask = options.sinks = at::Tensor();
  }
  FlashAttentionCpuOptions options;
};

/// `bias` and `sinks` are options.bias and options.sinks as given, for autograd to see. What is
/// kept of bfloat16 tensors for the gradients stays bfloat16.
class FlashAttentionFunction : public torch::autograd::Function<FlashAttentionFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& v, const std::optional<at::Tensor>& bias,
                            const std::optional<at::Tensor>& sinks,
                            const FlashAttentionCpuOptions& options) {
    const auto attended = run_forward(widened({q, k, v, options}), /*for_backward=*/true);
    auto out = as_type_of(q, attended.out);
    const bool is_out = attended.soft_out.is_same(attended.out);
    const auto soft_out = is_out ? out : as_type_of(q, attended.soft_out);
    ctx->save_for_backward({q, k, v, soft_out, attended.softmax, attended.chosen, options.bias,
                            options.alibi_slopes, options.mask, options.sinks,
                            bias.value_or(at::Tensor()), sinks.value_or(at::Tensor())});
    ctx->saved_data["numbers"] = at::IValue::make_capsule(c10::make_intrusive<Numbers>(options));
    return out;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& output_grads) {
    const auto saved = ctx->get_saved_variables();
    auto options =
        c10::static_intrusive_pointer_cast<Numbers>(ctx->saved_data["numbers"].toCapsule())
            ->options;
    const Attended attended{{}, saved[4], wide(saved[3]), saved[5]};
    options.bias = saved[6];
    options.alibi_slopes = saved[7];
    options.mask = saved[8];
    options.sinks = saved[9];
    const at::Tensor &bias = saved[10], &sinks = saved[11];
    const auto reference = [&](const variable_list& in) {
      auto given = options;
      given.bias = wide(in[3]);
      given.sinks = wide(in[4]);
      const auto out = flash_attention_cpu_reference(wide(in[0]), wide(in[1]), wide(in[2]), given);
      return as_type_of(in[0], out);
    };
    const auto wants = [](const at::Tensor& t) { return t.defined() && t.requires_grad(); };
    auto gradients =
        at::GradMode::is_enabled()
            ? differentiable_gradients(reference, {saved[0], saved[1], saved[2], bias, sinks},
                                       output_grads[0])
            : run_backward(widened({saved[0], saved[1], saved[2], options}), attended,
                           wants(bias) ? wide(bias) : at::Tensor(), wants(sinks),
                           wide(output_grads[0]));
    const at::Tensor* inputs[] = {&saved[0], &saved[1], &saved[2], &bias, &sinks};
    for (size_t i = 0; i < gradients.size(); ++i)
      gradients[i] = as_type_of(*inputs[i], gradients[i]);
    gradients.emplace_back();
    return gradients;
  }
};

/// What dropout multiplies the weights by, and the noise of the scores: [b, h, i, j] each.
struct Randomness {
  at::Tensor factors, noise;
};

Randomness draw(at::IntArrayRef sizes, const FlashAttentionCpuOptions& options) {
  Randomness drawn{at::empty(sizes, at::kFloat), at::empty(sizes, at::kFloat)};
  kernels::AttentionShape shape;
  shape.batch = sizes[0];
  shape.heads = sizes[1];
  shape.queries = sizes[2];
  shape.keys = sizes[3];
  kernels::AttentionScores scores;
  scores.dropout = options.dropout;
  scores.gumbel = options.gumbel;
  scores.seed = static_cast<uint64_t>(options.seed);
  kernels::attention_random(shape, scores, drawn.factors.mutable_data_ptr<float>(),
                            drawn.noise.mutable_data_ptr<float>());
  return drawn;
}

void set_normaliser(const FlashAttentionCpuOptions& options, const at::Tensor& noise,
                    ScoreProgram& program) {
  if (options.gumbel) {
    program.set(stages::GumbelSoftmax{options.temperature, options.hard, noise});
  } else if (options.hard) {
    program.set(stages::Hard());
  } else if (options.sigmoid) {
    program.set(stages::Sigmoid());
  }
}

/// The options as a score program for scores [b, h, i, j] of these sizes, with what the kernel
/// draws.
ScoreProgram program_of(at::IntArrayRef sizes, const FlashAttentionCpuOptions& options) {
  ScoreProgram program;
  program.set(stages::DotProduct{options.scale});
  if (options.alibi_slopes.defined()) program.set(stages::Alibi{options.alibi_slopes});
  if (options.bias.defined()) program.set(stages::Bias{options.bias});
  if (options.softclamp > 0) program.set(stages::Softclamp{options.softclamp});
  if (options.cog_signed) program.set(stages::CogSigned());
  if (options.mask.defined()) program.set(stages::Mask{options.mask});
  if (options.causal) program.set(stages::Causal());
  if (options.sinks.defined()) program.set(stages::HeadSink{options.sinks});
  Randomness drawn;
  if (options.gumbel || options.dropout > 0) drawn = draw(sizes, options);
  set_normaliser(options, drawn.noise, program);
  if (options.dropout > 0) program.set(stages::Dropout{options.dropout, drawn.factors});
  return program;
}

/// The type that the kernel reads a tensor in.
at::ScalarType wide_type(const at::Tensor& t) {
  return t.scalar_type() == at::kBFloat16 && emulates_bf16() ? at::kFloat : t.scalar_type();
}

/// Why the kernel cannot take `t`, which has a number for each head; empty: it can.
std::string head_tensor_unsupported(const at::Tensor& t, const std::string& name,
                                    const at::Tensor& q) {
  if (!t.defined()) return {};
  if (!t.device().is_cpu()) return name + " is not on the CPU";
  if (wide_type(t) != at::kFloat) return name + " is not Float";
  if (t.dim() != 1 || t.size(0) != q.size(1)) return name + " is not one number for each head";
  return {};
}

std::string score_tensor_unsupported(const at::Tensor& t, const std::string& name,
                                     at::ScalarType dtype, at::IntArrayRef sizes) {
  if (!t.defined()) return {};
  if (!t.device().is_cpu()) return name + " is not on the CPU";
  if (wide_type(t) != dtype) return name + " is not " + at::toString(dtype);
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
    if (wide_type(*tensors[i]) != at::kFloat) return std::string(names[i]) + " is not float32";
    if (tensors[i]->scalar_type() != q.scalar_type()) return "q, k and v have different types";
    if (tensors[i]->dim() != 4) return std::string(names[i]) + " is not [b, h, n, d]";
    if (tensors[i]->size(3) > kernels::kMaxHeadFeatures) {
      return std::string(names[i]) + " has more than " + std::to_string(kernels::kMaxHeadFeatures) +
             " features a head";
    }
  }
  const int64_t kv_heads = k.size(1);
  if (k.size(0) != q.size(0) || v.size(0) != q.size(0)) return "the batch sizes differ";
  if (v.size(1) != kv_heads || v.size(2) != k.size(2)) return "k and v do not fit each other";
  if (k.size(3) != q.size(3)) return "q and k have different features";
  if (kv_heads == 0 || q.size(1) % kv_heads != 0) return "kv heads do not divide the heads";
  if (options.softclamp < 0) return "softclamp is negative";
  if (!(options.dropout >= 0 && options.dropout <= 1)) return "dropout is no probability";
  if (options.sigmoid && options.sinks.defined()) return "a sigmoid has no sinks";
  if (options.sigmoid && options.hard) return "sigmoid and hard";
  if (options.gumbel && (options.sinks.defined() || options.cog_signed || options.sigmoid)) {
    return "Gumbel noise beside sinks, cog_signed or sigmoid";
  }
  if (!(options.temperature > 0)) return "temperature is not positive";
  const std::vector<int64_t> sizes = {q.size(0), q.size(1), q.size(2), k.size(2)};
  auto reason = score_tensor_unsupported(options.bias, "bias", at::kFloat, sizes);
  if (reason.empty()) reason = head_tensor_unsupported(options.alibi_slopes, "alibi_slopes", q);
  if (reason.empty()) reason = head_tensor_unsupported(options.sinks, "sinks", q);
  if (reason.empty()) reason = score_tensor_unsupported(options.mask, "mask", at::kBool, sizes);
  if (!reason.empty()) return reason;
  if (records_gradient({options.alibi_slopes})) return "alibi_slopes wants a gradient";
  if (records_gradient({options.bias}) && kv_heads > 1 &&
      with_four_dimensions(options.bias).size(1) == 1) {
    return "a bias that the heads share wants a gradient";
  }
  return {};
}

at::Tensor flash_attention_cpu(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                               const FlashAttentionCpuOptions& options) {
  const auto reason = flash_attention_cpu_unsupported(q, k, v, options);
  require(reason.empty(), "[flash_attention_cpu] " + reason);
  auto p = prepare(q, k, v, options);
  const bool abs_sinks = options.cog_signed && options.sinks.defined();
  const auto sinks = abs_sinks ? options.sinks.abs() : options.sinks;
  if (abs_sinks) p.options.sinks = wide(sinks.detach());
  if (records_gradient({p.q, p.k, p.v, options.bias, sinks})) {
    return FlashAttentionFunction::apply(p.q, p.k, p.v, std::optional(options.bias),
                                         std::optional(sinks), p.options);
  }
  return as_type_of(q, run_forward(widened(p), /*for_backward=*/false).out);
}

at::Tensor flash_attention_cpu_reference(const at::Tensor& q, const at::Tensor& k,
                                         const at::Tensor& v,
                                         const FlashAttentionCpuOptions& options) {
  const auto program = program_of({q.size(0), q.size(1), q.size(2), k.size(2)}, options);
  return attend_reference(q, k, v, program).out;
}

}  // namespace x_transformers
