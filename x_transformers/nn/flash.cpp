#include "x_transformers/nn/flash.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "x_transformers/core/json.h"
#include "x_transformers/core/json_options.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/core/tensor_check.h"
#include "x_transformers/ops/batched_product.h"
#include "x_transformers/ops/gated_attention.h"
#include "x_transformers/ops/group_attention.h"
#include "x_transformers/ops/mask.h"
#include "x_transformers/ops/shift_features.h"

namespace x_transformers {
namespace {

enum Head : int64_t { kQuadQuery, kLinQuery, kQuadKey, kLinKey, kHeads };

void validate(const FLASHOptions& o) {
  require_size(o.dim, "dim");
  require_size(o.group_size, "group_size");
  require_size(o.query_key_dim, "query_key_dim");
  require_gated_width(o.expansion_factor, o.dim);
  require_probability(o.dropout, "dropout");
  require(!o.shift_tokens || o.dim > 1, at("shift_tokens"), "needs {} of 2 or more", option("dim"));
}

std::shared_ptr<FLASHRotaryEmbedding> make_rotary(const ModuleSpec& spec) {
  expect(spec.type == "FLASHRotaryEmbedding", at("rotary_pos_emb"), spec.type,
         "FLASHRotaryEmbedding");
  return within("rotary_pos_emb", [&] {
    return std::make_shared<FLASHRotaryEmbedding>(
        options_from_json<FLASHRotaryEmbeddingOptions>(Json::parse(spec.arguments), OptionPath()));
  });
}

}  // namespace

/// What a call makes of its tokens.
struct FLASH::Projected {
  at::Tensor heads;   // [kHeads, b, n, query_key_dim], rotated
  at::Tensor hidden;  // [b, n, 2 hidden_dim]: values, gates
};

void FLASHState::start_group() {
  for (auto* buffer : {&quad_keys, &lin_keys, &values}) {
    *buffer = TokenBuffer();
    buffer->reserve(group_size_);
  }
}

void FLASHState::append(const at::Tensor& quad, const at::Tensor& lin, const at::Tensor& value) {
  quad_keys.append(quad);
  lin_keys.append(lin);
  values.append(value);
}

void FLASHState::close_full_group() {
  if (in_group() < group_size_) return;
  const auto scale = 1.0 / static_cast<double>(group_size_);
  const auto keys = lin_keys.view().transpose(1, 2);
  before = before.defined() ? at::baddbmm(before, keys, values.view(), /*beta=*/1, /*alpha=*/scale)
                            : at::bmm(keys, values.view()) * scale;
  start_group();
}

void FLASHState::reorder(const at::Tensor& rows) {
  for (auto* buffer : {&quad_keys, &lin_keys, &values}) buffer->reorder(rows);
  for (auto* t : {&before, &shifted})
    if (t->defined()) *t = t->index_select(0, rows);
}

void FLASHState::fix(const StaticPlace&) {
  throw InputError("FLASH has no static cache, it counts the tokens of a group on the host");
}

FLASH::FLASH(const FLASHOptions& options, std::shared_ptr<FLASHRotaryEmbedding> rotary_pos_emb)
    : options_(options) {
  validate(options_);
  const auto dim = options_.dim, hidden = options_.hidden_dim(), small = options_.query_key_dim;
  if (!rotary_pos_emb && options_.rotary_pos_emb)
    rotary_pos_emb = make_rotary(*options_.rotary_pos_emb);
  if (rotary_pos_emb) {
    const auto rotated = rotary_pos_emb->rotated();
    require(rotated <= small, at("rotary_pos_emb"), "rotates {} features, more than {} = {}",
            rotated, option("query_key_dim"), small);
    rotary_pos_emb_ = register_module("rotary_pos_emb", std::move(rotary_pos_emb));
  }
  FLASHT5RelativePositionBiasOptions bias;
  bias.scale = std::sqrt(static_cast<double>(small));
  bias.causal = options_.causal;
  rel_pos_bias_ =
      register_module("rel_pos_bias", std::make_shared<FLASHT5RelativePositionBias>(bias));
  norm_ = register_module("norm", make_flash_norm(options_.norm_klass, dim));
  to_hidden_ = register_module("to_hidden", std::make_shared<SiluLinear>(dim, 2 * hidden));
  to_qk_ = register_module("to_qk", std::make_shared<SiluLinear>(dim, small));
  qk_offset_scale_ = register_module(
      "qk_offset_scale", std::make_shared<OffsetScale>(OffsetScaleOptions{small, kHeads}));
  to_out_ = register_module("to_out", Linear(hidden, dim));
}

OptionPath FLASH::drawn_option() const {
  return options_.dropout > 0 ? OptionPath("dropout") : OptionPath();
}

Text FLASH::cache_unsupported() const {
  if (options_.causal) return {};
  return text("{} = false: each token sees those after it", option("causal"));
}

std::unique_ptr<BlockState> FLASH::make_state(const StateOptions&) const {
  return std::make_unique<FLASHState>(options_.group_size);
}

/// The first half of the features one token later.
at::Tensor FLASH::shift(const at::Tensor& normed, const at::Tensor& mask, FLASHState* state) const {
  const auto n = normed.size(1), count = (normed.size(2) + 1) / 2;
  const bool goes_on = state && state->shifted.defined();
  const auto earlier = goes_on ? state->shifted : at::Tensor();
  // A token that is masked out is to reach nothing; in Python it reaches the next one.
  const bool hides = mask.defined() && !options_.compat.python_quirks;
  const auto first = normed.narrow(2, 0, count);
  const auto moved = hides ? zero_masked_rows(first, mask) : first;
  if (state) state->shifted = moved.narrow(1, n - 1, 1);
  const auto rest = normed.narrow(2, count, normed.size(2) - count);
  return shift_features(hides ? at::cat({moved, rest}, 2) : normed, count, earlier);
}

FLASH::Projected FLASH::project(const BranchInputs& inputs, FLASHState* state) {
  auto normed = norm_->forward(inputs.x);
  if (options_.shift_tokens) normed = shift(normed, inputs.mask, state);
  auto heads = qk_offset_scale_->forward(to_qk_->forward(normed));
  if (rotary_pos_emb_)
    heads = apply_rotary(heads, rotary_pos_emb_->table(normed.size(1), state ? state->length : 0));
  return {heads, to_hidden_->forward(normed)};
}

GatedAttnFn FLASH::attn_fn() const {
  return options_.laplace_attn_fn ? GatedAttnFn::laplace : GatedAttnFn::relu_squared;
}

/// Quadratic attention within a group.
at::Tensor FLASH::attend_in_group(const at::Tensor& queries, const at::Tensor& keys,
                                  const at::Tensor& values, const at::Tensor& bias) {
  GatedAttend how;
  how.fn = attn_fn();
  how.scale = 1.0 / static_cast<double>(options_.group_size);
  how.bias = bias;
  how.causal = options_.causal;
  how.dropout = is_training() ? options_.dropout : 0.0;
  return gated_attend(queries, keys, values, how);
}

/// T5's bias of the `count` queries that come next in the group.
at::Tensor FLASH::bias_of_next(FLASHState& state, int64_t count) {
  const auto first = state.in_group(), size = options_.group_size;
  if (count != 1 || at::GradMode::is_enabled())
    return rel_pos_bias_->forward(first, count, first + count);
  if (!state.last_bias.defined()) state.last_bias = rel_pos_bias_->forward(size - 1, 1, size);
  return state.last_bias.narrow(1, size - 1 - first, first + 1);
}

/// All groups at once, gated.
at::Tensor FLASH::attend_groups(const Projected& p, const at::Tensor& mask) {
  const auto n = p.hidden.size(1);
  const auto size = std::min(options_.group_size, n);
  GroupAttend how;
  how.group_size = size;
  how.fn = attn_fn();
  how.causal = options_.causal;
  how.scale = 1.0 / static_cast<double>(options_.group_size);
  how.bias = rel_pos_bias_->by_distance(size);
  how.dropout = is_training() ? options_.dropout : 0.0;
  // A masked key has no weight, in either attention.
  how.mask = mask;
  if (options_.causal) {
    how.linear = LinearReach::earlier_groups;
    how.linear_scale = how.scale;
    return group_attend(p.heads, p.hidden, how);
  }
  how.linear = options_.reduce_group_non_causal_attn ? LinearReach::all : LinearReach::own_group;
  // A mask is to act like a shorter sequence; Python divides by the masked tokens too.
  if (mask.defined() && !options_.compat.python_quirks) {
    how.counts = mask.sum(-1).clamp_min(1);
  } else {
    how.linear_scale = 1.0 / static_cast<double>(n);
  }
  return group_attend(p.heads, p.hidden, how);
}

/// Group by group from where the state stands, gated.
at::Tensor FLASH::continue_groups(const Projected& p, const at::Tensor& mask, FLASHState& state) {
  const auto n = p.hidden.size(1);
  const auto hidden = p.hidden.chunk(2, -1);
  const auto values = zero_masked_rows(hidden[0], mask);
  std::vector<at::Tensor> parts;
  for (int64_t begin = 0; begin < n;) {
    const auto count = std::min(options_.group_size - state.in_group(), n - begin);
    const auto head = [&](Head which) { return p.heads[which].narrow(1, begin, count); };
    const auto bias = bias_of_next(state, count);
    state.append(head(kQuadKey), head(kLinKey), values.narrow(1, begin, count));
    auto out = attend_in_group(head(kQuadQuery), state.quad_keys.view(), state.values.view(), bias);
    if (state.before.defined()) out = out + batched_product(head(kLinQuery), state.before);
    parts.push_back(out);
    state.close_full_group();
    begin += count;
  }
  state.length += n;
  return (parts.size() == 1 ? parts[0] : at::cat(parts, 1)) * hidden[1];
}

/// Linear attention to all tokens of the context, gated.
at::Tensor FLASH::read_context(const BranchInputs& inputs) {
  const auto &context = inputs.context, &mask = inputs.context_mask;
  const auto batch = inputs.x.size(0), hidden = options_.hidden_dim();
  require(!options_.causal, at("causal"), "a context has no order that tokens stand in");
  require(!options_.shift_tokens, at("shift_tokens"), "each token reads a context by itself");
  require_tensor(context, "context", TensorKind::floating,
                 {{"batch", batch}, {"seq"}, {"dim", options_.dim}});
  require_tensor(mask, "context_mask", TensorKind::boolean,
                 {{"batch", batch, true}, {"seq", context.size(1)}});
  const auto normed = norm_->forward(inputs.x), normed_context = norm_->forward(context);
  const auto queries = qk_offset_scale_->forward(to_qk_->forward(normed))[kLinQuery];
  const auto keys = qk_offset_scale_->forward(to_qk_->forward(normed_context))[kLinKey];
  const auto values = zero_masked_rows(to_hidden_->forward(normed_context, 0, hidden), mask);
  const auto product = batched_product(keys.transpose(1, 2), values);
  auto out = batched_product(queries, product);
  if (mask.defined()) {
    out = out / mask.sum(-1, /*keepdim=*/true).clamp_min(1).unsqueeze(-1).to(out.scalar_type());
  } else {
    out = out / static_cast<double>(context.size(1));
  }
  return out * to_hidden_->forward(normed, hidden, hidden);
}

BranchOutput FLASH::run(const BranchInputs& inputs) {
  const auto& x = inputs.x;
  require_tensor(x, "x", TensorKind::floating, {{"batch"}, {"seq"}, {"dim", options_.dim}});
  require(x.size(1) > 0, at("x"), "expected at least one token");
  require_tensor(inputs.mask, "mask", TensorKind::boolean,
                 {{"batch", x.size(0), true}, {"seq", x.size(1)}});
  BranchOutput output;
  if (inputs.context.defined()) {
    output.out = to_out_->forward(read_context(inputs)) + x;
    return output;
  }
  auto* state = inputs.state ? &dynamic_cast<FLASHState&>(*inputs.state) : nullptr;
  const auto reason = state ? cache_unsupported() : Text();
  require(reason.empty(), at("cache"), "{}", reason);
  const auto p = project(inputs, state);
  const auto mixed =
      state ? continue_groups(p, inputs.mask, *state) : attend_groups(p, inputs.mask);
  output.out = to_out_->forward(mixed) + x;
  return output;
}

}  // namespace x_transformers
