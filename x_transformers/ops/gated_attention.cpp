#include "x_transformers/ops/gated_attention.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>

#include "x_transformers/core/error.h"
#include "x_transformers/ops/batched_product.h"
#include "x_transformers/ops/fast_path.h"
#include "x_transformers/ops/squared_relu.h"

namespace x_transformers {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct GatedCall {
  const at::Tensor &q, &k, &v;
  const GatedAttend& how;
};

/// [b, i, j]
at::Tensor scores(const at::Tensor& q, const at::Tensor& k, const at::Tensor& bias, double scale) {
  const auto keys = k.transpose(1, 2);
  const auto products = batched_product(q, keys) * scale;
  return bias.defined() ? products + bias : products;
}

/// Which entry of a row is the query's own.
int64_t own_key(const at::Tensor& weights) { return weights.size(-1) - weights.size(-2); }

at::Tensor reference(const GatedCall& call) {
  const auto& how = call.how;
  const auto raw = scores(call.q, call.k, how.bias, how.scale);
  auto weights = how.fn == GatedAttnFn::laplace ? laplace_attn_fn(raw) : at::relu(raw).square();
  if (how.dropout > 0) weights = at::dropout(weights, how.dropout, /*train=*/true);
  if (how.causal) weights = weights.tril(own_key(weights));
  return batched_product(weights, call.v);
}

/// The squared relu, keeping one matrix [b, i, j]: the relu of the scores, 0 where they are hidden.
/// The weights are its square, and their derivative twice of it.
class SquaredReluFunction : public torch::autograd::Function<SquaredReluFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& v, const std::optional<at::Tensor>& bias,
                            double scale, bool causal) {
    const auto scaled = scale == 1.0 ? q : q * scale;
    const auto rectified = rectified_scores(scaled, k, bias.value_or(at::Tensor()), causal);
    ctx->save_for_backward({q, k, v, bias.value_or(at::Tensor()), rectified});
    ctx->saved_data["scale"] = scale;
    ctx->saved_data["causal"] = causal;
    return batched_product(rectified.square(), v);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& output_grads) {
    const auto saved = ctx->get_saved_variables();
    const auto scale = ctx->saved_data["scale"].toDouble();
    if (at::GradMode::is_enabled()) {
      const bool causal = ctx->saved_data["causal"].toBool();
      const auto again = [&](const variable_list& inputs) {
        const GatedAttend how{GatedAttnFn::relu_squared, scale, inputs[3], causal};
        return reference({inputs[0], inputs[1], inputs[2], how});
      };
      const auto gradients = differentiable_gradients(
          again, {saved[0], saved[1], saved[2], saved[3]}, output_grads[0]);
      return {gradients[0], gradients[1], gradients[2], gradients[3], {}, {}};
    }
    const auto &q = saved[0], &k = saved[1], &v = saved[2], &bias = saved[3];
    const auto& rectified = saved[4];
    const auto& out_grad = output_grads[0];
    const auto v_grad = batched_product(rectified.square().transpose(1, 2), out_grad);
    auto score_grad = batched_product(out_grad, v.transpose(1, 2));
    score_grad.mul_(rectified).mul_(2);
    at::Tensor bias_grad;
    if (bias.defined() && ctx->needs_input_grad(3))
      bias_grad = at::sum_to(score_grad, bias.sizes());
    auto q_grad = batched_product(score_grad, k);
    auto k_grad = batched_product(score_grad.transpose(1, 2), q);
    if (scale != 1.0) {
      q_grad.mul_(scale);
      k_grad.mul_(scale);
    }
    return {q_grad, k_grad, v_grad, bias_grad, {}, {}};
  }

  /// Of queries that are scaled already.
  static at::Tensor rectified_scores(const at::Tensor& q, const at::Tensor& k,
                                     const at::Tensor& bias, bool causal) {
    auto rectified = batched_product(q, k.transpose(1, 2));
    if (bias.defined()) rectified.add_(bias);
    rectified.relu_();
    if (causal) rectified.tril_(own_key(rectified));
    return rectified;
  }
};

/// By blocks of queries on the CPU: a causal mask costs half of the products, and no pass over the
/// matrix of scores is by itself.
class BlockFunction : public torch::autograd::Function<BlockFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& v, const std::optional<at::Tensor>& bias,
                            double scale, bool causal) {
    const auto relus = at::empty({q.size(0), q.size(1), k.size(1)}, q.options());
    const GatedAttend how{GatedAttnFn::relu_squared, scale, bias.value_or(at::Tensor()), causal};
    ctx->save_for_backward({q, k, v, how.bias, relus});
    ctx->saved_data["scale"] = scale;
    ctx->saved_data["causal"] = causal;
    return run({q, k, v, how}, relus);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& output_grads) {
    const auto saved = ctx->get_saved_variables();
    const GatedAttend how{GatedAttnFn::relu_squared, ctx->saved_data["scale"].toDouble(), saved[3],
                          ctx->saved_data["causal"].toBool()};
    if (at::GradMode::is_enabled()) {
      const auto again = [&](const variable_list& inputs) {
        auto own = how;
        own.bias = inputs[3];
        return reference({inputs[0], inputs[1], inputs[2], own});
      };
      auto gradients = differentiable_gradients(again, {saved[0], saved[1], saved[2], saved[3]},
                                                output_grads[0]);
      gradients.resize(6);
      return gradients;
    }
    const GatedCall call{saved[0], saved[1], saved[2], how};
    const auto out_grad = with_dense_rows(output_grads[0]);
    const SquaredReluGradients all{at::empty(saved[0].sizes(), saved[0].options()),
                                   at::empty(saved[1].sizes(), saved[1].options()),
                                   at::empty(saved[2].sizes(), saved[2].options()),
                                   {}};
    const auto batch = saved[0].size(0);
    const bool wants_bias = how.bias.defined() && ctx->needs_input_grad(3);
    const bool has_own = wants_bias && how.bias.dim() == 3 && how.bias.size(0) == batch;
    const auto parts = wants_bias && !has_own ? std::min(batch, kMaxBiasSums) : batch;
    at::Tensor bias_grads;
    if (wants_bias)
      bias_grads = at::zeros({parts, saved[0].size(1), saved[1].size(1)}, saved[0].options());
    for_each_part(parts, [&](int64_t part) {
      for (int64_t i = batch * part / parts; i < batch * (part + 1) / parts; ++i) {
        const SquaredReluGradients own{all.q[i], all.k[i], all.v[i],
                                       wants_bias ? bias_grads[part] : at::Tensor()};
        squared_relu_backward(matrix(call, i), saved[4][i], out_grad[i], own);
      }
    });
    const auto bias_grad = wants_bias ? at::sum_to(bias_grads, how.bias.sizes()) : at::Tensor();
    return {all.q, all.k, all.v, bias_grad, {}, {}};
  }

  /// Keeps in `relus`, where that is defined, what the backward pass needs.
  static at::Tensor run(const GatedCall& call, const at::Tensor& relus) {
    auto out = at::empty({call.q.size(0), call.q.size(1), call.v.size(2)}, call.q.options());
    for_each_part(call.q.size(0), [&](int64_t i) {
      squared_relu_forward(matrix(call, i), relus.defined() ? relus[i] : at::Tensor(), out[i]);
    });
    return out;
  }

  static at::Tensor with_dense_rows(const at::Tensor& t) {
    return t.stride(-1) == 1 ? t : t.contiguous();
  }

 private:
  // Sums of the gradient of a bias for parts of the batch, as many as may be made side by side.
  static constexpr int64_t kMaxBiasSums = 16;

  static SquaredRelu matrix(const GatedCall& call, int64_t i) {
    const auto& bias = call.how.bias;
    SquaredRelu matrix;
    matrix.q = call.q[i];
    matrix.k = call.k[i];
    matrix.v = call.v[i];
    matrix.scale = call.how.scale;
    matrix.causal = call.how.causal;
    matrix.bias = bias;
    if (bias.defined() && bias.dim() == 3) matrix.bias = bias[bias.size(0) == 1 ? 0 : i];
    return matrix;
  }
};

Reasons one_matrix_reasons(const GatedCall& call) {
  Reasons reasons;
  reasons.add_if(call.how.fn != GatedAttnFn::relu_squared, "it knows the squared relu alone");
  reasons.add_if(call.how.dropout > 0, "it has no dropout");
  return reasons;
}

at::Tensor one_matrix(const GatedCall& call) {
  const auto& how = call.how;
  if (!records_gradient({call.q, call.k, call.v, how.bias})) {
    const auto scaled = how.scale == 1.0 ? call.q : call.q * how.scale;
    auto weights = SquaredReluFunction::rectified_scores(scaled, call.k, how.bias, how.causal);
    return batched_product(weights.square_(), call.v);
  }
  return SquaredReluFunction::apply(call.q, call.k, call.v,
                                    how.bias.defined() ? std::optional(how.bias) : std::nullopt,
                                    how.scale, how.causal);
}

bool is_float_on_cpu(const at::Tensor& t) {
  return !t.defined() ||
         (t.is_cpu() && t.scalar_type() == at::kFloat && t.layout() == at::kStrided);
}

Reasons block_reasons(const GatedCall& call) {
  auto reasons = one_matrix_reasons(call);
  const auto& bias = call.how.bias;
  for (const auto& t : {call.q, call.k, call.v, bias})
    reasons.add_if(!is_float_on_cpu(t), "not a dense float32 tensor on the CPU");
  constexpr int64_t kMinQueries =
      16;  // below, a product for each sequence costs more than it saves
  reasons.add_if(call.q.size(1) < kMinQueries, "too few queries");
  const bool has_pairs = !bias.defined() || (bias.dim() >= 2 && bias.size(-1) == call.k.size(1) &&
                                             bias.size(-2) == call.q.size(1));
  reasons.add_if(!has_pairs, "the bias has not an entry for each query and key");
  return reasons;
}

at::Tensor by_blocks(const GatedCall& call) {
  const auto dense = BlockFunction::with_dense_rows;
  auto how = call.how;
  if (how.bias.defined()) how.bias = dense(how.bias);
  const auto q = dense(call.q), k = dense(call.k), v = dense(call.v);
  if (!records_gradient({q, k, v, how.bias})) return BlockFunction::run({q, k, v, how}, {});
  return BlockFunction::apply(q, k, v, how.bias.defined() ? std::optional(how.bias) : std::nullopt,
                              how.scale, how.causal);
}

const Engines<GatedCall, at::Tensor>& gated_engines() {
  static const Engines<GatedCall, at::Tensor> all(
      {{"cpu", block_reasons, by_blocks},
       {"one_matrix", one_matrix_reasons, one_matrix},
       {"reference", [](const GatedCall&) { return Reasons(); }, reference}});
  return all;
}

void check(const GatedCall& call) {
  const auto &q = call.q, &k = call.k, &v = call.v;
  const bool fits = q.dim() == 3 && k.dim() == 3 && v.dim() == 3 && q.size(0) == k.size(0) &&
                    k.size(0) == v.size(0) && q.size(2) == k.size(2) && k.size(1) == v.size(1);
  require(fits, fmt::format("[gated_attend] expected q [b, i, d], k [b, j, d] and v [b, j, e], got "
                            "[{}], [{}] and [{}]",
                            fmt::join(q.sizes(), ", "), fmt::join(k.sizes(), ", "),
                            fmt::join(v.sizes(), ", ")));
  require(!call.how.causal || q.size(1) <= k.size(1),
          "[gated_attend] causal: expected a key for each query");
}

}  // namespace

at::Tensor laplace_attn_fn(const at::Tensor& x) {
  const double mean = std::sqrt(0.5), deviation = std::sqrt(1.0 / (4.0 * std::numbers::pi));
  return (at::special_erf((x - mean) / (deviation * std::numbers::sqrt2)) + 1) * 0.5;
}

at::Tensor gated_attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                        const GatedAttend& how) {
  const GatedCall call{q, k, v, how};
  check(call);
  return gated_engines().run(call);
}

at::Tensor gated_attend_on(const std::string& engine, const at::Tensor& q, const at::Tensor& k,
                           const at::Tensor& v, const GatedAttend& how) {
  const GatedCall call{q, k, v, how};
  check(call);
  return gated_engines().run_on(engine, call);
}

std::vector<EngineReport> explain_gated_attend(const at::Tensor& q, const at::Tensor& k,
                                               const at::Tensor& v, const GatedAttend& how) {
  const GatedCall call{q, k, v, how};
  check(call);
  return gated_engines().explain(call);
}

}  // namespace x_transformers
