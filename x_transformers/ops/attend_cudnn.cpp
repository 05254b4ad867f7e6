// cuDNN's fused attention with stages that LibTorch's does not have: ALiBi, softclamp, windows and
// sinks, without a matrix of scores.
#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "x_transformers/ops/attend_engine.h"
#include "x_transformers/ops/column_sums.h"
#include "x_transformers/ops/cuda_launchers.h"
#include "x_transformers/ops/cuda_tensors.h"
#include "x_transformers/ops/fast_path.h"
#include "x_transformers/ops/heads.h"
#include "x_transformers/ops/heads_of_tokens.h"
#include "x_transformers/ops/kernel_tensors.h"
#include "x_transformers/ops/side_by_side.h"

namespace x_transformers {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct CudnnParameters {
  double scale = 1.0, softclamp = 0.0;
  bool causal = false;
  std::optional<int64_t> window;
  at::Tensor slopes, sink;

  bool modifies_scores() const { return softclamp > 0 || slopes.defined(); }
};

const KnownStages<CudnnParameters>& cudnn_stages() {
  using Call = AttendCall;
  using P = CudnnParameters;
  using R = Reasons;
  static const auto all =
      KnownStages<CudnnParameters>()
          .add<stages::DotProduct>([](const auto& s, const Call&, P& p, R&) { p.scale = s.scale; })
          .add<stages::Alibi>([](const auto& s, const Call&, P& p, R& reasons) {
            p.slopes = s.fixed();
            reasons.add_if(s.front > 0, "alibi with keys in front that have no place");
          })
          .add<stages::Softclamp>(
              [](const auto& s, const Call&, P& p, R&) { p.softclamp = s.bound; })
          .add<stages::Causal>([](const auto&, const Call&, P& p, R&) { p.causal = true; })
          .add<stages::Window>([](const auto& s, const Call&, P& p, R&) { p.window = s.past; })
          .add<stages::HeadSink>([](const auto& s, const Call&, P& p, R&) { p.sink = s.scores; })
          .add<stages::Softmax>();
  return all;
}

/// The program again, for gradients of gradients.
ScoreProgram program_of(const CudnnParameters& p) {
  ScoreProgram program;
  program.set(stages::DotProduct{p.scale});
  if (p.slopes.defined()) program.set(stages::Alibi{p.slopes});
  if (p.softclamp > 0) program.set(stages::Softclamp{p.softclamp});
  if (p.causal) program.set(stages::Causal());
  if (p.window) program.set(stages::Window{*p.window});
  if (p.sink.defined()) program.set(stages::HeadSink{p.sink});
  return program;
}

/// q, k and v have as many heads, and dense features.
kernels::ScoredAttention call_of(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                 const at::Tensor& out, const CudnnParameters& p) {
  kernels::ScoredAttention call;
  call.element = element_of(q);
  call.batch = q.size(0);
  call.heads = q.size(1);
  call.queries = q.size(2);
  call.keys = k.size(2);
  call.dim = q.size(3);
  call.q = heads_of_tokens(q);
  call.k = heads_of_tokens(k);
  call.v = heads_of_tokens(v);
  call.out = heads_of_tokens(out);
  call.scale = static_cast<float>(p.scale);
  call.causal = p.causal;
  call.window = p.window.value_or(-1);
  call.softclamp = static_cast<float>(p.softclamp);
  call.slopes = data_or_null(p.slopes);
  return call;
}

/// Makes it the backward call, without the sink, which is in the log-sum-exp.
void set_gradients(kernels::ScoredAttention& call, const at::Tensor& out_grad,
                   const at::Tensor& q_grad, const at::Tensor& k_grad, const at::Tensor& v_grad) {
  call.backwards = true;
  call.sink = nullptr;
  call.out_grad = heads_of_tokens(out_grad);
  call.q_grad = heads_of_tokens(q_grad);
  call.k_grad = heads_of_tokens(k_grad);
  call.v_grad = heads_of_tokens(v_grad);
}

void launch(kernels::ScoredAttention& call, const at::Tensor& like) {
  const auto& launchers = *our_cuda_kernels().launchers;
  const auto device = like.device().index();
  std::string reason;
  const auto bytes = launchers.scored_attention_workspace(call, device, reason);
  require(bytes >= 0, at("attention"), "{}", reason);
  const auto workspace = at::empty({std::max<int64_t>(bytes, 1)}, like.options().dtype(at::kByte));
  call.workspace = workspace.mutable_data_ptr();
  launchers.scored_attention(call, device);
}

at::Tensor as_floats(const at::Tensor& sink) {
  return sink.defined() ? sink.detach().to(at::kFloat).contiguous() : sink;
}

class CudnnAttention : public torch::autograd::Function<CudnnAttention> {
 public:
  /// The output, and log_sum_exp [b, h, i].
  static std::pair<at::Tensor, at::Tensor> run(const at::Tensor& q, const at::Tensor& k,
                                               const at::Tensor& v, const CudnnParameters& p) {
    const auto out = empty_positions_first_like(q);
    const auto log_sum_exp =
        at::empty({q.size(0), q.size(1), q.size(2)}, q.options().dtype(at::kFloat));
    const auto sink = as_floats(p.sink);
    auto call = call_of(q, k, v, out, p);
    call.sink = data_or_null(sink);
    call.log_sum_exp = log_sum_exp.mutable_data_ptr<float>();
    launch(call, q);
    return {out, log_sum_exp};
  }

  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& v, const std::optional<at::Tensor>& sink,
                            const CudnnParameters& p) {
    const auto [out, log_sum_exp] = run(q, k, v, p);
    ctx->save_for_backward({q, k, v, out, log_sum_exp, sink.value_or(at::Tensor()), p.slopes});
    ctx->saved_data["scale"] = p.scale;
    ctx->saved_data["softclamp"] = p.softclamp;
    ctx->saved_data["causal"] = p.causal;
    ctx->saved_data["window"] = p.window;
    return out;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& output_grads) {
    const auto saved = ctx->get_saved_variables();
    const auto &q = saved[0], &k = saved[1], &v = saved[2], &out = saved[3],
               &log_sum_exp = saved[4], &sink = saved[5];
    CudnnParameters p;
    p.scale = ctx->saved_data["scale"].toDouble();
    p.softclamp = ctx->saved_data["softclamp"].toDouble();
    p.causal = ctx->saved_data["causal"].toBool();
    p.window = ctx->saved_data["window"].toOptional<int64_t>();
    p.slopes = saved[6];
    if (at::GradMode::is_enabled()) {
      const auto reference = [&](const variable_list& inputs) {
        auto with_sink = p;
        with_sink.sink = inputs[3];
        return attend_reference(inputs[0], inputs[1], inputs[2], program_of(with_sink)).out;
      };
      auto gradients = differentiable_gradients(reference, {q, k, v, sink}, output_grads[0]);
      gradients.emplace_back();
      return gradients;
    }
    const auto out_grad = in_memory_like(output_grads[0], out);
    const auto [q_grad, k_grad, v_grad] =
        empty_gradients_of_heads(q, k, v, are_side_by_side(q, k, v));
    auto call = call_of(q, k, v, out, p);
    call.log_sum_exp = log_sum_exp.mutable_data_ptr<float>();
    set_gradients(call, out_grad, q_grad, k_grad, v_grad);
    launch(call, q);
    return {q_grad, k_grad, v_grad, sink_grad(sink, log_sum_exp, out, out_grad), at::Tensor()};
  }

 private:
  /// [h] of a sink that wants one.
  static at::Tensor sink_grad(const at::Tensor& sink, const at::Tensor& log_sum_exp,
                              const at::Tensor& out, const at::Tensor& out_grad) {
    if (!sink.defined() || !sink.requires_grad()) return {};
    const auto scores = as_floats(sink);
    const auto terms = at::empty({out.size(0) * out.size(2), out.size(1)}, log_sum_exp.options());
    kernels::SinkTerms params;
    params.out = out.const_data_ptr();
    params.out_grad = out_grad.const_data_ptr();
    params.element = element_of(out);
    params.sinks = scores.const_data_ptr<float>();
    params.log_sum_exp = log_sum_exp.const_data_ptr<float>();
    params.terms = terms.mutable_data_ptr<float>();
    params.batch = out.size(0);
    params.heads = out.size(1);
    params.length = out.size(2);
    params.dim = out.size(3);
    our_cuda_kernels().launchers->sink_terms(params, out.device().index());
    return column_sums(terms, sink.scalar_type());
  }
};

void add_reasons_of_shape(const AttendCall& call, const CudnnParameters& p, Reasons& reasons) {
  constexpr int64_t kMaxFeatures = 128, kMultiple = 8;
  const auto &q = call.q, &k = call.k, &v = call.v;
  const auto i = q.size(2), j = k.size(2), d = q.size(3);
  reasons.add_if(d > kMaxFeatures || d % kMultiple != 0 || v.size(3) != d,
                 "the features of a head");
  reasons.add_if(!is_aligned(q) || !is_aligned(k) || !is_aligned(v), "memory off 16 bytes");
  reasons.add_if(i < 2 || j < 2, "a single query or key");
  reasons.add_if(q.numel() == 0, "there are no queries");
  reasons.add_if(p.causal && i > j, "queries without keys");
  reasons.add_if(p.window.has_value() && (!p.causal || p.modifies_scores() || i != j),
                 "a window that is not causal, beside alibi or softclamp, or of further keys");
  reasons.add_if(p.window.has_value() && *p.window > (int64_t{1} << 30), "a window of any length");
}

/// Whether cuDNN takes the graphs: asked of it once for each kind.
void add_reason_of_cudnn(const AttendCall& call, const CudnnParameters& p, Reasons& reasons) {
  // No work on the device, which may be capturing: these tensors have strides alone.
  const auto like = [](const at::Tensor& t, int64_t heads) {
    const auto sizes = std::vector<int64_t>{t.size(0), heads, t.size(2), t.size(3)};
    const auto options = t.options().device(at::kMeta);
    const bool as_it_is = t.size(1) == heads && t.stride(3) == 1;
    return as_it_is ? at::empty_strided(sizes, t.strides(), options) : at::empty(sizes, options);
  };
  const at::NoGradGuard no_grad;
  const auto heads = call.q.size(1);
  const auto q = like(call.q, heads), k = like(call.k, heads), v = like(call.v, heads);
  const auto out = empty_positions_first_like(q);
  auto plan = call_of(q, k, v, out, p);
  const float any = 0;
  plan.sink = p.sink.defined() ? &any : nullptr;
  const auto& launchers = *our_cuda_kernels().launchers;
  const auto device = call.q.device().index();
  std::string reason;
  launchers.scored_attention_workspace(plan, device, reason);
  if (reason.empty() && records_gradient({call.q, call.k, call.v, p.sink})) {
    const auto [q_grad, k_grad, v_grad] =
        empty_gradients_of_heads(q, k, v, are_side_by_side(call.q, call.k, call.v));
    set_gradients(plan, out, q_grad, k_grad, v_grad);
    launchers.scored_attention_workspace(plan, device, reason);
  }
  reasons.add(reason);
}

Reasons cudnn_reasons(const AttendCall& call) {
  auto reasons = reasons_against_fused(call);
  const auto p = cudnn_stages().read(call, reasons);
  add_reasons_against_cuda_halves(call, reasons);
  if (!call.q.is_cuda()) return reasons;
  // LibTorch's causal mask begins at the first key as well.
  const bool has_keys_in_front = p.causal && call.q.size(2) < call.k.size(2);
  // LibTorch gives the gradients of queries, keys and values each in memory of its own, which makes
  // nine products of three where they come from one.
  const bool has_gradients_side_by_side =
      records_gradient({call.q, call.k, call.v}) && are_side_by_side(call.q, call.k, call.v);
  reasons.add_if(!p.modifies_scores() && !p.window && !p.sink.defined() && !has_keys_in_front &&
                     !has_gradients_side_by_side,
                 "nothing that LibTorch's engines do not have");
  reasons.add_if(p.sink.defined() && p.sink.device() != call.q.device(), "the sinks are elsewhere");
  reasons.add_if(p.slopes.defined() && p.slopes.device() != call.q.device(),
                 "the slopes are elsewhere");
  if (reasons.empty()) add_reasons_of_shape(call, p, reasons);
  if (reasons.empty()) add_reason_of_cudnn(call, p, reasons);
  return reasons;
}

AttendResult run_cudnn(const AttendCall& call) {
  const auto p = cudnn_stages().read(call);
  const auto heads = call.q.size(1);
  const auto q = with_dense_features(call.q);
  const auto k = with_dense_features(repeat_heads(call.k, heads)),
             v = with_dense_features(repeat_heads(call.v, heads));
  if (!records_gradient({q, k, v, p.sink})) return {CudnnAttention::run(q, k, v, p).first, {}};
  const auto sink = p.sink.defined() ? std::optional(p.sink) : std::nullopt;
  return {CudnnAttention::apply(q, k, v, sink, p), {}};
}

}  // namespace

ListedEngine cudnn_engine() {
  return {{"cudnn", cudnn_reasons, run_cudnn},
          [](StageType stage) { return cudnn_stages().contains(stage); }};
}

}  // namespace x_transformers
