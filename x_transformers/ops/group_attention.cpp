#include "x_transformers/ops/group_attention.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <optional>

#include "x_transformers/core/error.h"
#include "x_transformers/ops/batched_product.h"
#include "x_transformers/ops/fast_path.h"
#include "x_transformers/ops/group_attention_cpu.h"
#include "x_transformers/ops/group_attention_cuda.h"
#include "x_transformers/ops/mask.h"

namespace x_transformers {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct GroupCall {
  const at::Tensor &heads, &hidden;
  const GroupAttend& how;
};

/// Groups of t [..., groups * size, d] as rows of a batch, [... * groups, size, d].
at::Tensor in_groups(const at::Tensor& t, int64_t size) {
  return t.unflatten(-2, {t.size(-2) / size, size}).flatten(-4, -3);
}

/// Zeros after the tokens of t [..., n, d].
at::Tensor pad_tokens(const at::Tensor& t, int64_t padding) {
  return padding > 0 ? at::constant_pad_nd(t, {0, 0, 0, padding}, 0) : t;
}

/// For each of `groups` the sum of the matrices [b, groups - 1, d, e] of those before it, times
/// `scale`: [b, groups, d, e].
at::Tensor sums_before(const at::Tensor& matrices, int64_t groups, double scale) {
  const auto flat = matrices.flatten(2);
  // As a product with ones below the diagonal, which reads memory in order; its work grows with
  // the square of the number of groups.
  constexpr int64_t kMaxByProduct = 64;
  if (groups <= kMaxByProduct) {
    const auto below = at::full({groups, groups - 1}, scale, flat.options())
                           .tril(-1)
                           .expand({flat.size(0), -1, -1});
    return at::bmm(below, flat).unflatten(2, matrices.sizes().slice(2));
  }
  const auto sums = at::constant_pad_nd(flat.cumsum(1), {0, 0, 1, 0}, 0);
  return (sums * scale).unflatten(2, matrices.sizes().slice(2));
}

/// [size, size] of a bias of distances up to its middle.
at::Tensor bias_matrix(const at::Tensor& bias, int64_t size) {
  if (!bias.defined()) return bias;
  const auto middle = (bias.size(0) - 1) / 2;
  const auto own = bias.narrow(0, middle - (size - 1), 2 * size - 1);
  // Row i begins at entry size - 1 - i.
  return own.unfold(0, size, 1).flip(0);
}

/// By ATen: all groups at once, the last one padded.
class GroupReference {
 public:
  explicit GroupReference(const GroupCall& call)
      : how_(call.how),
        heads_(call.heads),
        value_(zero_masked_rows(call.hidden.chunk(2, -1)[0], call.how.mask)),
        gate_(call.hidden.chunk(2, -1)[1]),
        batch_(value_.size(0)),
        n_(value_.size(1)),
        size_(std::min(call.how.group_size, n_)),
        groups_((n_ + size_ - 1) / size_) {}

  at::Tensor run() const {
    auto out = in_sequence(quadratic());
    if (how_.linear != LinearReach::none) {
      auto read = linear() * how_.linear_scale;
      if (how_.counts.defined()) read = read / counts();
      out = out + read;
    }
    return out * gate_;
  }

 private:
  at::Tensor head(int64_t which) const { return heads_[which]; }
  at::Tensor rows_of(const at::Tensor& t) const {
    return in_groups(pad_tokens(t, groups_ * size_ - n_), size_);
  }
  at::Tensor in_sequence(const at::Tensor& rows) const {
    return rows.unflatten(0, {batch_, groups_}).flatten(1, 2).narrow(1, 0, n_);
  }
  at::Tensor counts() const { return how_.counts.to(heads_.scalar_type()).view({-1, 1, 1}); }

  at::Tensor quadratic() const {
    const bool has_linear = how_.linear != LinearReach::none;
    GatedAttend how;
    how.fn = how_.fn;
    how.causal = how_.causal;
    how.dropout = how_.dropout;
    how.scale = how_.scale;
    how.bias = bias_matrix(how_.bias, size_);
    if (how.bias.defined() && how_.bias_scale != 1.0) how.bias = how.bias * how_.bias_scale;
    auto q = head(0);
    if (how_.counts.defined() && !has_linear) {
      q = q / counts();
      if (how.bias.defined()) how.bias = how.bias / counts();
    }
    return gated_attend(rows_of(q), rows_of(head(has_linear ? 2 : 1)), rows_of(value_), how);
  }

  at::Tensor linear() const {
    const auto q = head(1), k = head(3);
    if (how_.linear == LinearReach::all)
      return batched_product(q, batched_product(k.transpose(1, 2), value_));
    if (how_.linear == LinearReach::own_group) {
      const auto sums = batched_product(rows_of(k).transpose(1, 2), rows_of(value_));
      return in_sequence(batched_product(rows_of(q), sums));
    }
    if (groups_ == 1) return at::zeros_like(value_);
    // Nothing comes after the last group, which may lack some tokens.
    const auto full = (groups_ - 1) * size_;
    const auto products = batched_product(in_groups(k.narrow(1, 0, full), size_).transpose(1, 2),
                                          in_groups(value_.narrow(1, 0, full), size_));
    const auto before = sums_before(products.unflatten(0, {batch_, groups_ - 1}), groups_, 1.0);
    return in_sequence(batched_product(rows_of(q), before.flatten(0, 1)));
  }

  const GroupAttend& how_;
  at::Tensor heads_, value_, gate_;
  int64_t batch_, n_, size_, groups_;
};

at::Tensor reference(const GroupCall& call) { return GroupReference(call).run(); }

const GroupPasses& passes_of(const at::Tensor& heads) {
  static constexpr GroupPasses kCpu{group_attend_forward, group_attend_backward};
  static constexpr GroupPasses kCuda{group_attend_forward_on_cuda, group_attend_backward_on_cuda};
  return heads.is_cuda() ? kCuda : kCpu;
}

class GroupFunction : public torch::autograd::Function<GroupFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& heads, const at::Tensor& hidden,
                            const std::optional<at::Tensor>& bias, const GroupAttend& how) {
    GroupKept kept;
    auto out = passes_of(heads).forward(heads, hidden, how, &kept);
    ctx->save_for_backward({heads, hidden, bias.value_or(at::Tensor()), how.mask, how.counts,
                            kept.relus, kept.weights, kept.mixed, kept.sums});
    ctx->saved_data["group_size"] = how.group_size;
    ctx->saved_data["causal"] = how.causal;
    ctx->saved_data["scale"] = how.scale;
    ctx->saved_data["bias_scale"] = how.bias_scale;
    ctx->saved_data["linear"] = static_cast<int64_t>(how.linear);
    ctx->saved_data["linear_scale"] = how.linear_scale;
    return out;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& output_grads) {
    const auto saved = ctx->get_saved_variables();
    GroupAttend how;
    how.group_size = ctx->saved_data["group_size"].toInt();
    how.causal = ctx->saved_data["causal"].toBool();
    how.scale = ctx->saved_data["scale"].toDouble();
    how.bias_scale = ctx->saved_data["bias_scale"].toDouble();
    how.linear = static_cast<LinearReach>(ctx->saved_data["linear"].toInt());
    how.linear_scale = ctx->saved_data["linear_scale"].toDouble();
    how.bias = saved[2];
    how.mask = saved[3];
    how.counts = saved[4];
    if (at::GradMode::is_enabled()) {
      const auto again = [&](const variable_list& inputs) {
        auto own = how;
        own.bias = inputs[2];
        return reference({inputs[0], inputs[1], own});
      };
      auto gradients =
          differentiable_gradients(again, {saved[0], saved[1], saved[2]}, output_grads[0]);
      gradients.resize(4);
      return gradients;
    }
    const auto gradients = passes_of(saved[0]).backward(saved[0], saved[1], how,
                                                        {saved[5], saved[6], saved[7], saved[8]},
                                                        output_grads[0].contiguous());
    return {gradients.heads, gradients.hidden, gradients.bias, {}};
  }
};

Reasons cpu_reasons(const GroupCall& call) {
  const auto& how = call.how;
  Reasons reasons;
  reasons.add_if(how.fn != GatedAttnFn::relu_squared, "it knows the squared relu alone");
  reasons.add_if(how.dropout > 0, "it has no dropout");
  for (const auto& t : {call.heads, call.hidden, how.bias}) {
    const bool fits =
        !t.defined() || (t.is_cpu() && t.scalar_type() == at::kFloat && t.layout() == at::kStrided);
    reasons.add_if(!fits, "not a dense float32 tensor on the CPU");
  }
  return reasons;
}

at::Tensor by_groups(const GroupCall& call) {
  auto how = call.how;
  if (how.bias.defined()) how.bias = how.bias.contiguous();
  const auto heads = call.heads.contiguous(), hidden = call.hidden.contiguous();
  if (!records_gradient({heads, hidden, how.bias}))
    return passes_of(heads).forward(heads, hidden, how, nullptr);
  return GroupFunction::apply(heads, hidden,
                              how.bias.defined() ? std::optional(how.bias) : std::nullopt, how);
}

Reasons cuda_reasons(const GroupCall& call) {
  return group_attend_cuda_reasons(call.heads, call.hidden, call.how);
}

/// Of whole groups, where masked values are zeros.
at::Tensor by_whole_groups(const GroupCall& call) {
  const auto n = call.hidden.size(1), size = std::min(call.how.group_size, n);
  const auto padding = (size - n % size) % size;
  auto how = call.how;
  auto hidden = call.hidden;
  if (how.mask.defined()) {
    const auto halves = hidden.chunk(2, -1);
    hidden = at::cat({zero_masked_rows(halves[0], how.mask), halves[1]}, -1);
    how.mask = at::Tensor();
  }
  const auto heads = pad_tokens(call.heads, padding);
  hidden = pad_tokens(hidden, padding);
  const auto out = by_groups({heads, hidden, how});
  return padding > 0 ? out.narrow(1, 0, n) : out;
}

const Engines<GroupCall, at::Tensor>& group_engines() {
  static const Engines<GroupCall, at::Tensor> all(
      {{"cpu", cpu_reasons, by_groups},
       {"cuda", cuda_reasons, by_whole_groups},
       {"reference", [](const GroupCall&) { return Reasons(); }, reference}});
  return all;
}

void check(const GroupCall& call) {
  const auto &heads = call.heads, &hidden = call.hidden;
  const auto& how = call.how;
  const int64_t count = how.linear == LinearReach::none ? 2 : 4;
  const bool fits = heads.dim() == 4 && hidden.dim() == 3 && heads.size(0) == count &&
                    heads.size(1) == hidden.size(0) && heads.size(2) == hidden.size(1) &&
                    hidden.size(1) > 0 && hidden.size(2) % 2 == 0;
  require(fits,
          fmt::format("[group_attend] expected heads [{}, b, n, d] and hidden [b, n, 2 e] of "
                      "at least one token, got [{}] and [{}]",
                      count, fmt::join(heads.sizes(), ", "), fmt::join(hidden.sizes(), ", ")));
  require(how.group_size > 0,
          fmt::format("[group_attend] expected a group_size of 1 or more, got {}", how.group_size));
  const auto& bias = how.bias;
  const auto distances = 2 * std::min(how.group_size, hidden.size(1)) - 1;
  require(
      !bias.defined() || (bias.dim() == 1 && bias.size(0) % 2 == 1 && bias.size(0) >= distances),
      fmt::format("[group_attend] bias: expected the {} distances of a group, got [{}]", distances,
                  bias.defined() ? fmt::format("{}", fmt::join(bias.sizes(), ", ")) : ""));
}

}  // namespace

at::Tensor group_attend(const at::Tensor& heads, const at::Tensor& hidden, const GroupAttend& how) {
  const GroupCall call{heads, hidden, how};
  check(call);
  return group_engines().run(call);
}

at::Tensor group_attend_on(const std::string& engine, const at::Tensor& heads,
                           const at::Tensor& hidden, const GroupAttend& how) {
  const GroupCall call{heads, hidden, how};
  check(call);
  return group_engines().run_on(engine, call);
}

std::vector<EngineReport> explain_group_attend(const at::Tensor& heads, const at::Tensor& hidden,
                                               const GroupAttend& how) {
  const GroupCall call{heads, hidden, how};
  check(call);
  return group_engines().explain(call);
}

}  // namespace x_transformers
