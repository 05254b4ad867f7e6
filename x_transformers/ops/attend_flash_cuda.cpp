// Our CUDA kernels of attention without a matrix of scores, for what cuDNN's and LibTorch's do not
// have: biases of distances and of tokens, masks, sigmoid and signed weights, distances as scores.
#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "x_transformers/ops/attend_engine.h"
#include "x_transformers/ops/cuda_launchers.h"
#include "x_transformers/ops/cuda_tensors.h"
#include "x_transformers/ops/fast_path.h"
#include "x_transformers/ops/heads.h"
#include "x_transformers/ops/heads_of_tokens.h"
#include "x_transformers/ops/kernel_tensors.h"
#include "x_transformers/ops/side_by_side.h"

namespace x_transformers {
namespace {

using kernels::FlashNormaliser;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr double kLog2E = 1.4426950408889634;

struct FlashParameters {
  double scale = 1.0, softclamp = 0.0;
  bool l2_distance = false, causal = false;
  std::optional<int64_t> window;
  FlashNormaliser normaliser = FlashNormaliser::softmax;
  int64_t front = 0;
  at::Tensor slopes, table, query_terms, key_terms, mask, sink;

  /// Whether LibTorch's engines have no such stage without a matrix.
  bool has_more_than_libtorch() const {
    return l2_distance || softclamp > 0 || window || normaliser != FlashNormaliser::softmax ||
           slopes.defined() || table.defined() || query_terms.defined() || mask.defined() ||
           sink.defined();
  }
};

const KnownStages<FlashParameters>& flash_stages() {
  using Call = AttendCall;
  using P = FlashParameters;
  using R = Reasons;
  static const auto all =
      KnownStages<FlashParameters>()
          .add<stages::DotProduct>([](const auto& s, const Call&, P& p, R&) { p.scale = s.scale; })
          .add<stages::L2Distance>([](const auto& s, const Call&, P& p, R&) {
            p.scale = s.scale;
            p.l2_distance = true;
          })
          .add<stages::Alibi>([](const auto& s, const Call&, P& p, R&) {
            p.slopes = s.fixed();
            p.front = s.front;
          })
          .add<stages::DistanceBias>([](const auto& s, const Call&, P& p, R&) {
            p.table = s.table;
            p.front = s.front;
          })
          .add<stages::TokenBias>([](const auto& s, const Call& call, P& p, R&) {
            p.query_terms = s.queries;
            p.key_terms = s.keys;
            p.front = call.k.size(2) - s.keys.size(-1);
          })
          .add<stages::Softclamp>(
              [](const auto& s, const Call&, P& p, R&) { p.softclamp = s.bound; })
          .add<stages::CogSigned>([](const auto&, const Call&, P& p, R&) {
            p.normaliser = FlashNormaliser::cog_signed;
          })
          .add<stages::Mask>([](const auto& s, const Call&, P& p, R&) { p.mask = s.allowed; })
          .add<stages::Causal>([](const auto&, const Call&, P& p, R&) { p.causal = true; })
          .add<stages::Window>([](const auto& s, const Call&, P& p, R&) { p.window = s.past; })
          .add<stages::HeadSink>([](const auto& s, const Call&, P& p, R&) { p.sink = s.scores; })
          .add<stages::Softmax>()
          .add<stages::Sigmoid>([](const auto&, const Call&, P& p, R& reasons) {
            reasons.add_if(p.normaliser != FlashNormaliser::softmax, "sigmoid beside cog_signed");
            p.normaliser = FlashNormaliser::sigmoid;
          });
  return all;
}

/// The program again, for gradients of gradients.
ScoreProgram program_of(const FlashParameters& p) {
  ScoreProgram program;
  if (p.l2_distance) {
    program.set(stages::L2Distance{p.scale});
  } else {
    program.set(stages::DotProduct{p.scale});
  }
  if (p.slopes.defined()) program.set(stages::Alibi{p.slopes, p.front});
  if (p.table.defined()) program.set(stages::DistanceBias{p.table, p.front});
  if (p.query_terms.defined()) program.set(stages::TokenBias{p.query_terms, p.key_terms});
  if (p.softclamp > 0) program.set(stages::Softclamp{p.softclamp});
  if (p.normaliser == FlashNormaliser::cog_signed) program.set(stages::CogSigned());
  if (p.mask.defined()) program.set(stages::Mask{p.mask});
  if (p.causal) program.set(stages::Causal());
  if (p.window) program.set(stages::Window{*p.window});
  if (p.sink.defined()) program.set(stages::HeadSink{p.sink});
  if (p.normaliser == FlashNormaliser::sigmoid) program.set(stages::Sigmoid());
  return program;
}

/// In the kernels' units, float32 and dense.
at::Tensor binary(const at::Tensor& t) {
  return t.defined() ? (t.detach().to(at::kFloat) * kLog2E).contiguous() : t;
}

/// A call's parameters, and the tensors that they point to. q, k and v have as many heads, and
/// dense features.
struct FlashCall {
  kernels::FlashAttention params;
  at::Tensor slopes, table, query_terms, key_terms, mask, sink;

  FlashCall(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& out,
            const at::Tensor& log_sum_exp, const FlashParameters& p)
      : slopes(p.slopes),
        table(binary(p.table)),
        query_terms(binary(p.query_terms)),
        key_terms(binary(p.key_terms)),
        mask(p.mask),
        sink(binary(p.sink)) {
    auto& to = params;
    to.element = element_of(q);
    to.normaliser = p.normaliser;
    to.batch = q.size(0);
    to.heads = q.size(1);
    to.queries = q.size(2);
    to.keys = k.size(2);
    to.dim = q.size(3);
    to.value_dim = v.size(3);
    to.q = heads_of_tokens(q);
    to.k = heads_of_tokens(k);
    to.v = heads_of_tokens(v);
    to.out = heads_of_tokens(out);
    to.log_sum_exp = mutable_data_or_null(log_sum_exp);
    to.scale = static_cast<float>(p.l2_distance ? 2 * p.scale : p.scale);
    to.causal = p.causal;
    to.window = p.window.value_or(-1);
    to.softclamp = static_cast<float>(p.softclamp);
    to.front = p.front;
    if (p.l2_distance) {
      query_terms = at::empty({to.batch, to.heads, to.queries}, q.options().dtype(at::kFloat));
      key_terms = at::empty({to.batch, to.heads, to.keys}, q.options().dtype(at::kFloat));
      to.query_squares = mutable_data_or_null(query_terms);
      to.key_squares = mutable_data_or_null(key_terms);
    } else if (key_terms.defined() && p.front > 0) {
      key_terms = at::constant_pad_nd(key_terms, {p.front, 0}, 0);
    }
    to.slopes = data_or_null(slopes);
    to.distance_bias = data_or_null(table);
    if (table.defined()) {
      to.distances = table.size(1);
      to.zero = table.size(1) / 2;
    }
    to.query_bias = data_or_null(query_terms);
    to.key_bias = data_or_null(key_terms);
    to.sink = data_or_null(sink);
    if (mask.defined()) {
      mask = mask.expand({q.size(0), q.size(1), q.size(2), k.size(2)});
      to.mask = mask.const_data_ptr<bool>();
      for (int i = 0; i < 4; ++i) to.mask_strides[i] = mask.stride(i);
    }
  }
};

/// autograd takes no undefined tensors.
using MaybeTensor = std::optional<at::Tensor>;

class FlashCudaAttention : public torch::autograd::Function<FlashCudaAttention> {
 public:
  /// The output, and its log_sum_exp [b, h, i].
  static std::pair<at::Tensor, at::Tensor> run(const at::Tensor& q, const at::Tensor& k,
                                               const at::Tensor& v, const FlashParameters& p) {
    const auto out =
        empty_positions_first({q.size(0), q.size(1), q.size(2), v.size(3)}, q.options());
    const auto log_sum_exp =
        at::empty({q.size(0), q.size(1), q.size(2)}, q.options().dtype(at::kFloat));
    const FlashCall call(q, k, v, out, log_sum_exp, p);
    our_cuda_kernels().launchers->flash_attention_forward(call.params, q.device().index());
    return {out, log_sum_exp};
  }

  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& v, const MaybeTensor& /*table*/,
                            const MaybeTensor& /*query_terms*/, const MaybeTensor& /*key_terms*/,
                            const MaybeTensor& /*sink*/, const FlashParameters& p) {
    const auto [out, log_sum_exp] = run(q, k, v, p);
    ctx->save_for_backward(
        {q, k, v, p.table, p.query_terms, p.key_terms, p.sink, out, log_sum_exp, p.slopes, p.mask});
    auto& data = ctx->saved_data;
    data["scale"] = p.scale;
    data["softclamp"] = p.softclamp;
    data["l2_distance"] = p.l2_distance;
    data["causal"] = p.causal;
    data["window"] = p.window;
    data["normaliser"] = static_cast<int64_t>(p.normaliser);
    data["front"] = p.front;
    return out;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& output_grads) {
    const auto saved = ctx->get_saved_variables();
    const auto &q = saved[0], &k = saved[1], &v = saved[2], &out = saved[7],
               &log_sum_exp = saved[8];
    auto& data = ctx->saved_data;
    FlashParameters p;
    p.scale = data["scale"].toDouble();
    p.softclamp = data["softclamp"].toDouble();
    p.l2_distance = data["l2_distance"].toBool();
    p.causal = data["causal"].toBool();
    p.window = data["window"].toOptional<int64_t>();
    p.normaliser = static_cast<FlashNormaliser>(data["normaliser"].toInt());
    p.front = data["front"].toInt();
    p.table = saved[3];
    p.query_terms = saved[4];
    p.key_terms = saved[5];
    p.sink = saved[6];
    p.slopes = saved[9];
    p.mask = saved[10];
    if (at::GradMode::is_enabled()) {
      const auto reference = [&](const variable_list& inputs) {
        auto again = p;
        again.table = inputs[3];
        again.query_terms = inputs[4];
        again.key_terms = inputs[5];
        again.sink = inputs[6];
        return attend_reference(inputs[0], inputs[1], inputs[2], program_of(again)).out;
      };
      auto gradients = differentiable_gradients(
          reference, {q, k, v, p.table, p.query_terms, p.key_terms, p.sink}, output_grads[0]);
      gradients.emplace_back();
      return gradients;
    }
    return gradients_of(q, k, v, out, log_sum_exp, in_memory_like(output_grads[0], out), p);
  }

 private:
  static variable_list gradients_of(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                    const at::Tensor& out, const at::Tensor& log_sum_exp,
                                    const at::Tensor& out_grad, const FlashParameters& p) {
    const auto [q_grad, k_grad, v_grad] =
        empty_gradients_of_heads(q, k, v, are_side_by_side(q, k, v));
    FlashCall call(q, k, v, out, log_sum_exp, p);
    auto& params = call.params;
    const auto& launchers = *our_cuda_kernels().launchers;
    params.out_grad = heads_of_tokens(out_grad);
    params.q_grad = heads_of_tokens(q_grad);
    params.k_grad = heads_of_tokens(k_grad);
    params.v_grad = heads_of_tokens(v_grad);
    const auto along = at::empty_like(log_sum_exp);
    params.along = mutable_data_or_null(along);
    const auto floats = [&](at::IntArrayRef sizes) {
      return at::empty(sizes, log_sum_exp.options());
    };
    at::Tensor table_grad, partial, query_grad, key_grad;
    if (p.table.defined() && p.table.requires_grad()) {
      table_grad = floats(p.table.sizes());
      partial = floats({launchers.flash_attention_partial(params)});
      params.distance_bias_grad = mutable_data_or_null(table_grad);
      params.partial = mutable_data_or_null(partial);
    }
    if (p.query_terms.defined()) {
      query_grad = floats(p.query_terms.sizes());
      key_grad = floats({k.size(0), k.size(1), k.size(2)});
      params.query_bias_grad = mutable_data_or_null(query_grad);
      params.key_bias_grad = mutable_data_or_null(key_grad);
    }
    launchers.flash_attention_backward(params, q.device().index());
    if (key_grad.defined()) key_grad = key_grad.narrow(2, p.front, k.size(2) - p.front);
    const auto as = [](const at::Tensor& gradient, const at::Tensor& of) {
      return gradient.defined() ? gradient.to(of.scalar_type()) : gradient;
    };
    return {q_grad,
            k_grad,
            v_grad,
            as(table_grad, p.table),
            as(query_grad, p.query_terms),
            as(key_grad, p.key_terms),
            sink_grad(call.sink, log_sum_exp, along, p.sink),
            at::Tensor()};
  }

  /// The sink's weight has no value, so its gradient is minus the sum of the weight times
  /// out * out_grad.
  static at::Tensor sink_grad(const at::Tensor& binary_sink, const at::Tensor& log_sum_exp,
                              const at::Tensor& along, const at::Tensor& sink) {
    if (!sink.defined()) return {};
    const auto weights = (binary_sink.view({-1, 1}) - log_sum_exp).exp2();
    return (weights * along).sum(at::IntArrayRef{0, 2}).neg().to(sink.scalar_type());
  }
};

void add_reasons_of_shape(const AttendCall& call, const FlashParameters& p, Reasons& reasons) {
  constexpr int64_t kMultiple = 8, kFewQueries = 16, kMax = int64_t{1} << 30;
  const auto &q = call.q, &k = call.k, &v = call.v;
  const auto d = q.size(3), dv = v.size(3);
  reasons.add_if(d > kernels::kMaxFlashFeatures || d % kMultiple != 0 ||
                     dv > kernels::kMaxFlashFeatures || dv % kMultiple != 0 || d == 0 || dv == 0,
                 "the features of a head");
  const auto has_vectors = [](const at::Tensor& t) {
    bool multiple = is_aligned(t);
    for (int i = 0; i < 3; ++i) multiple = multiple && t.stride(i) % kMultiple == 0;
    return multiple || t.stride(3) != 1;  // that is copied
  };
  reasons.add_if(!has_vectors(q) || !has_vectors(k) || !has_vectors(v), "memory off 16 bytes");
  reasons.add_if(q.size(2) > kMax || k.size(2) > kMax || q.size(0) * q.size(1) > 65535,
                 "so many queries, keys or heads");
  reasons.add_if(q.size(2) < kFewQueries && k.size(2) > kFewQueries, "few queries");
  reasons.add_if(q.numel() == 0 || k.numel() == 0, "there are no queries or keys");
  if (p.table.defined()) {
    const auto span = p.table.size(1) / 2 + 1;
    reasons.add_if(p.table.size(0) != q.size(1) || span < q.size(2) || span < k.size(2) - p.front,
                   "a table of other heads or distances");
  }
  if (p.query_terms.defined()) {
    const bool fits = p.query_terms.sizes() == q.sizes().slice(0, 3) &&
                      p.key_terms.sizes().slice(0, 2) == q.sizes().slice(0, 2);
    reasons.add_if(!fits, "terms of other entries or heads");
  }
}

Reasons flash_reasons(const AttendCall& call) {
  auto reasons = reasons_against_fused(call);
  const auto p = flash_stages().read(call, reasons);
  add_reasons_against_cuda_halves(call, reasons);
  if (!call.q.is_cuda()) return reasons;
  reasons.add_if(!p.has_more_than_libtorch(), "nothing that LibTorch's engines do not have");
  reasons.add_if(!(p.scale > 0), "a scale that is not positive");
  reasons.add_if(p.sink.defined() && p.normaliser != FlashNormaliser::softmax,
                 "a sink without softmax");
  reasons.add_if(p.l2_distance && p.query_terms.defined(), "l2_distance beside a bias of tokens");
  reasons.add_if(p.l2_distance && p.front > 0, "l2_distance beside keys that have no place");
  for (const auto* t : {&p.slopes, &p.table, &p.query_terms, &p.key_terms, &p.mask, &p.sink})
    reasons.add_if(t->defined() && t->device() != call.q.device(), "a stage's tensor is elsewhere");
  if (reasons.empty()) add_reasons_of_shape(call, p, reasons);
  return reasons;
}

AttendResult run_flash(const AttendCall& call) {
  const auto p = flash_stages().read(call);
  const auto heads = call.q.size(1);
  const auto q = with_dense_features(call.q);
  const auto k = with_dense_features(repeat_heads(call.k, heads)),
             v = with_dense_features(repeat_heads(call.v, heads));
  if (!records_gradient({q, k, v, p.table, p.query_terms, p.key_terms, p.sink}))
    return {FlashCudaAttention::run(q, k, v, p).first, {}};
  const auto maybe = [](const at::Tensor& t) {
    return t.defined() ? MaybeTensor(t) : std::nullopt;
  };
  const auto out = FlashCudaAttention::apply(q, k, v, maybe(p.table), maybe(p.query_terms),
                                             maybe(p.key_terms), maybe(p.sink), p);
  return {out, {}};
}

}  // namespace

ListedEngine flash_cuda_engine() {
  return {{"flash_cuda", flash_reasons, run_flash},
          [](StageType stage) { return flash_stages().contains(stage); }};
}

}  // namespace x_transformers
