#include "x_transformers/nn/gau.h"

#include <ATen/ATen.h>

#include <cmath>

#include "x_transformers/core/rules.h"
#include "x_transformers/core/tensor_check.h"
#include "x_transformers/core/warning.h"
#include "x_transformers/nn/mixing_inputs.h"
#include "x_transformers/ops/gated_attention.h"
#include "x_transformers/ops/group_attention.h"
#include "x_transformers/ops/mask.h"

namespace x_transformers {
namespace {

void validate(const GAUOptions& o) {
  require_size(o.dim, "dim");
  require_size(o.query_key_dim, "query_key_dim");
  require_gated_width(o.expansion_factor, o.dim);
  require_probability(o.dropout, "dropout");
  expect(o.normalise == "length" || o.normalise == "position", at("normalise"), o.normalise,
         "length or position");
  if (o.rel_pos_bias)
    warn_unused(at("rel_pos_bias"), "changes nothing: as in Python, the T5 bias is always there");
}

}  // namespace

/// What a call attends to.
struct GAU::Keys {
  at::Tensor key;      // [b, j, query_key_dim]
  at::Tensor value;    // [b, j, hidden_dim], 0 where masked
  at::Tensor mask;     // [b or 1, j of this call], undefined: none
  int64_t first = 0;   // position of the first query
  at::Tensor visible;  // [b, 1] of earlier keys
  bool is_own = true;  // keys are the tokens, and no context
};

void GAUState::reorder(const at::Tensor& rows) {
  KeyValueCache::reorder(rows);
  if (visible.defined() && visible.size(0) > 1) visible = visible.index_select(0, rows);
}

void GAUState::fix(const StaticPlace&) {
  throw InputError("GAU has no static cache, it counts the positions of its keys on the host");
}

GAU::GAU(const GAUOptions& options) : options_(options) {
  validate(options_);
  const auto dim = options_.dim, hidden = options_.hidden_dim(), small = options_.query_key_dim;
  norm_ = register_module("norm", make_flash_norm(options_.norm_klass, dim));
  FLASHT5RelativePositionBiasOptions bias;
  bias.scale = std::sqrt(static_cast<double>(dim));
  bias.causal = options_.causal;
  rel_pos_bias_ =
      register_module("rel_pos_bias", std::make_shared<FLASHT5RelativePositionBias>(bias));
  to_hidden_ = register_module("to_hidden", std::make_shared<SiluLinear>(dim, 2 * hidden));
  to_qk_ = register_module("to_qk", std::make_shared<SiluLinear>(dim, small));
  offsetscale_ =
      register_module("offsetscale", std::make_shared<OffsetScale>(OffsetScaleOptions{small, 2}));
  to_out_ = register_module("to_out", make_scope())->register_module("0", Linear(hidden, dim));
}

OptionPath GAU::drawn_option() const {
  return options_.dropout > 0 ? OptionPath("dropout") : OptionPath();
}

Text GAU::cache_unsupported() const {
  if (!options_.causal) return text("{} = false: each token sees those after it", option("causal"));
  if (options_.normalise != "position")
    return text(
        "{} = length divides scores by the tokens of the whole sequence, so that each new "
        "one changes the outputs of all others ({} = position does not)",
        option("normalise"), option("normalise"));
  return {};
}

std::unique_ptr<BlockState> GAU::make_state(const StateOptions& options) const {
  auto state = std::make_unique<GAUState>();
  state->reserve(options.capacity);
  return state;
}

GAU::Keys GAU::keys_of(const BranchInputs& inputs, const at::Tensor& own_key,
                       const at::Tensor& own_value) {
  Keys keys;
  if (inputs.context.defined()) {
    require(!options_.causal, at("causal"), "a context has no order that tokens stand in");
    require_tensor(inputs.context, "context", TensorKind::floating,
                   {{"batch", own_key.size(0)}, {"seq"}, {"dim", options_.dim}});
    const auto normed = norm_->forward(inputs.context);
    keys.mask = inputs.context_mask;
    keys.value = zero_masked_rows(to_hidden_->forward(normed, 0, options_.hidden_dim()), keys.mask);
    keys.key = offsetscale_->forward(to_qk_->forward(normed))[1];
    keys.is_own = false;
    return keys;
  }
  keys.mask = inputs.mask;
  keys.key = own_key;
  keys.value = zero_masked_rows(own_value, keys.mask);
  if (!inputs.state) return keys;
  const auto reason = cache_unsupported();
  require(reason.empty(), at("cache"), "{}", reason);
  auto& state = dynamic_cast<GAUState&>(*inputs.state);
  keys.first = state.length();
  keys.visible = state.visible;
  const auto [all_keys, all_values] = state.append(keys.key.unsqueeze(1), keys.value.unsqueeze(1));
  keys.key = all_keys.squeeze(1);
  keys.value = all_values.squeeze(1);
  return keys;
}

/// T5's bias, and what is given: broadcasts to [b, n, j]; undefined: none.
at::Tensor GAU::bias_of(const BranchInputs& inputs, const Keys& keys, int64_t n) {
  at::Tensor bias;
  if (keys.is_own) bias = rel_pos_bias_->forward(keys.first, n, keys.key.size(1));
  const auto given = inputs.mixing ? inputs.mixing->attn_bias : at::Tensor();
  if (!given.defined()) return bias;
  require_broadcast(given, "rel_pos_bias", TensorKind::floating,
                    {{"batch", keys.key.size(0)}, {"queries", n}, {"keys", keys.key.size(1)}});
  return bias.defined() ? bias + given : given;
}

/// How many keys each query's scores are divided by, [b or 1, n or 1, 1]; undefined: all there are.
at::Tensor GAU::key_counts(const BranchInputs& inputs, const Keys& keys, int64_t n) const {
  const bool by_position = options_.normalise == "position" && options_.causal && keys.is_own;
  if (!by_position) {
    // A mask is to act like a shorter sequence; Python divides by the masked tokens too.
    if (!keys.mask.defined() || options_.compat.python_quirks) return {};
    return keys.mask.sum(-1, /*keepdim=*/true).clamp_min(1).unsqueeze(-1);
  }
  const auto kind = keys.key.options().dtype(at::kLong);
  at::Tensor counts;  // of this call, [b or 1, n]
  if (keys.mask.defined()) {
    counts = keys.mask.cumsum(-1);
  } else {
    counts = at::arange(1, n + 1, kind).unsqueeze(0);
  }
  counts = keys.visible.defined() ? counts + keys.visible : counts + keys.first;
  if (inputs.state && (keys.mask.defined() || keys.visible.defined()))
    dynamic_cast<GAUState&>(*inputs.state).visible = counts.narrow(-1, n - 1, 1);
  return counts.clamp_min(1).unsqueeze(-1);
}

at::Tensor GAU::attend(const BranchInputs& inputs, const at::Tensor& q, const Keys& keys) {
  const auto n = q.size(1);
  GatedAttend how;
  how.fn = options_.laplace_attn_fn ? GatedAttnFn::laplace : GatedAttnFn::relu_squared;
  how.causal = options_.causal;
  how.dropout = is_training() ? options_.dropout : 0.0;
  how.bias = bias_of(inputs, keys, n);
  const auto counts = key_counts(inputs, keys, n);
  if (!counts.defined()) {
    how.scale = 1.0 / static_cast<double>(keys.key.size(1));
    if (how.bias.defined()) how.bias = how.bias * how.scale;
    return gated_attend(q, keys.key, keys.value, how);
  }
  const auto factors = counts.to(q.scalar_type()).reciprocal();
  if (how.bias.defined()) how.bias = how.bias * factors;
  return gated_attend(q * factors, keys.key, keys.value, how);
}

/// Of tokens to themselves, where all of a sequence have the same count of keys; gated. As one
/// group, whose bias needs no matrix.
at::Tensor GAU::attend_to_own(const BranchInputs& inputs, const at::Tensor& heads,
                              const at::Tensor& hidden) {
  const auto n = hidden.size(1);
  GroupAttend how;
  how.group_size = n;
  how.fn = options_.laplace_attn_fn ? GatedAttnFn::laplace : GatedAttnFn::relu_squared;
  how.causal = options_.causal;
  how.dropout = is_training() ? options_.dropout : 0.0;
  how.bias = rel_pos_bias_->by_distance(n);
  how.mask = inputs.mask;
  // A mask is to act like a shorter sequence; Python divides by the masked tokens too.
  if (inputs.mask.defined() && !options_.compat.python_quirks) {
    how.counts = inputs.mask.sum(-1).clamp_min(1);
  } else {
    how.scale = how.bias_scale = 1.0 / static_cast<double>(n);
  }
  return group_attend(heads, hidden, how);
}

BranchOutput GAU::run(const BranchInputs& inputs) {
  const auto& x = inputs.x;
  require_tensor(x, "x", TensorKind::floating, {{"batch"}, {"seq"}, {"dim", options_.dim}});
  require_tensor(inputs.mask, "mask", TensorKind::boolean,
                 {{"batch", x.size(0), true}, {"seq", x.size(1)}});
  if (inputs.context.defined())
    require_tensor(inputs.context_mask, "context_mask", TensorKind::boolean,
                   {{"batch", x.size(0), true}, {"seq", inputs.context.size(1)}});
  const auto normed = norm_->forward(x);
  const auto hidden = to_hidden_->forward(normed);
  const auto small = offsetscale_->forward(to_qk_->forward(normed));
  const bool is_one_group = x.size(1) > 0 && !inputs.context.defined() && !inputs.state &&
                            !(inputs.mixing && inputs.mixing->attn_bias.defined()) &&
                            !(options_.normalise == "position" && options_.causal);
  at::Tensor mixed;
  if (is_one_group) {
    mixed = attend_to_own(inputs, small, hidden);
  } else {
    const auto halves = hidden.chunk(2, -1);
    mixed = attend(inputs, small[0], keys_of(inputs, small[1], halves[0])) * halves[1];
  }
  auto out = to_out_->forward(mixed);
  if (options_.dropout > 0) out = at::dropout(out, options_.dropout, is_training());
  BranchOutput output;
  output.out = options_.add_residual ? out + x : out;
  return output;
}

}  // namespace x_transformers
