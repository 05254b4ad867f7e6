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
#include "x_transformers/ops/mask.h"

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

/// Groups of t [b, groups * size, d] as rows of a batch, [b * groups, size, d].
at::Tensor in_groups(const at::Tensor& t, int64_t size) {
  return t.unflatten(1, {t.size(1) / size, size}).flatten(0, 1);
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
  constexpr int64_t kMostByProduct = 64;
  if (groups <= kMostByProduct) {
    const auto below = at::full({groups, groups - 1}, scale, flat.options())
                           .tril(-1)
                           .expand({flat.size(0), -1, -1});
    return at::bmm(below, flat).unflatten(2, matrices.sizes().slice(2));
  }
  const auto sums = at::constant_pad_nd(flat.cumsum(1), {0, 0, 1, 0}, 0);
  return (sums * scale).unflatten(2, matrices.sizes().slice(2));
}

}  // namespace

/// What a call makes of its tokens.
struct FLASH::Projected {
  at::Tensor heads;  // [kHeads, b, n, query_key_dim], rotated
  at::Tensor value;  // [b, n, hidden_dim], 0 where masked
  at::Tensor gate;   // [b, n, hidden_dim]

  at::Tensor head(Head which) const { return heads[which]; }
  /// Tokens `begin` to begin + count - 1.
  Projected tokens(int64_t begin, int64_t count) const {
    return {heads.narrow(2, begin, count), value.narrow(1, begin, count), {}};
  }
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
  throw InputError("FLASH: has no static cache, it counts the tokens of a group on the host");
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

std::string FLASH::cache_unsupported() const {
  return options_.causal ? "" : "causal = false: each token sees those after it";
}

std::unique_ptr<BlockState> FLASH::make_state(const StateOptions&) const {
  return std::make_unique<FLASHState>(options_.group_size);
}

/// The first half of the features one token later.
at::Tensor FLASH::shift(const at::Tensor& normed, const at::Tensor& mask, FLASHState* state) const {
  const auto halves = normed.chunk(2, -1);
  // A token that is masked out is to reach nothing; in Python it reaches the next one.
  const auto moved = options_.compat.python_quirks ? halves[0] : zero_masked_rows(halves[0], mask);
  const bool goes_on = state && state->shifted.defined();
  const auto first = goes_on ? state->shifted : moved.new_zeros({moved.size(0), 1, moved.size(2)});
  const auto n = moved.size(1);
  if (state) state->shifted = moved.narrow(1, n - 1, 1);
  return at::cat({at::cat({first, moved.narrow(1, 0, n - 1)}, 1), halves[1]}, -1);
}

FLASH::Projected FLASH::project(const BranchInputs& inputs, FLASHState* state) {
  auto normed = norm_->forward(inputs.x);
  if (options_.shift_tokens) normed = shift(normed, inputs.mask, state);
  const auto hidden = to_hidden_->forward(normed).chunk(2, -1);
  auto heads = qk_offset_scale_->forward(to_qk_->forward(normed));
  if (rotary_pos_emb_)
    heads = apply_rotary(heads, rotary_pos_emb_->table(normed.size(1), state ? state->length : 0));
  // A masked key has no weight, in either attention.
  return {heads, zero_masked_rows(hidden[0], inputs.mask), hidden[1]};
}

/// Quadratic attention of groups to themselves.
at::Tensor FLASH::attend_in_group(const at::Tensor& queries, const at::Tensor& keys,
                                  const at::Tensor& values, const at::Tensor& bias) {
  GatedAttend how;
  how.fn = options_.laplace_attn_fn ? GatedAttnFn::laplace : GatedAttnFn::relu_squared;
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

at::Tensor FLASH::causal_groups(const Projected& p) {
  const auto batch = p.value.size(0), n = p.value.size(1);
  const auto size = std::min(options_.group_size, n);
  const auto groups = (n + size - 1) / size, padding = groups * size - n;
  const auto rows_of = [&](const at::Tensor& t) { return in_groups(pad_tokens(t, padding), size); };
  Projected rows{at::Tensor(), rows_of(p.value), {}};
  const auto padded = pad_tokens(p.heads, padding);
  rows.heads = padded.unflatten(2, {groups, size}).flatten(1, 2);
  auto out = attend_in_group(rows.head(kQuadQuery), rows.head(kQuadKey), rows.value,
                             rel_pos_bias_->forward(0, size, size));
  if (groups > 1) {
    // Nothing comes after the last group, which may lack some tokens.
    const auto full = (groups - 1) * size;
    const auto keys = in_groups(p.head(kLinKey).narrow(1, 0, full), size);
    const auto products =
        batched_product(keys.transpose(1, 2), in_groups(p.value.narrow(1, 0, full), size));
    const auto before = sums_before(products.unflatten(0, {batch, groups - 1}), groups,
                                    1.0 / static_cast<double>(options_.group_size));
    out = out + batched_product(rows.head(kLinQuery), before.flatten(0, 1));
  }
  return out.unflatten(0, {batch, groups}).flatten(1, 2).narrow(1, 0, n);
}

at::Tensor FLASH::all_groups(const Projected& p, const at::Tensor& mask) {
  const auto batch = p.value.size(0), n = p.value.size(1);
  const auto size = std::min(options_.group_size, n);
  const auto groups = (n + size - 1) / size, padding = groups * size - n;
  // A mask is to act like a shorter sequence; Python divides by the masked tokens too.
  auto lin_queries = p.head(kLinQuery);
  if (mask.defined() && !options_.compat.python_quirks) {
    const auto count = mask.sum(-1, /*keepdim=*/true).clamp_min(1).unsqueeze(-1);
    lin_queries = lin_queries / count.to(lin_queries.scalar_type());
  } else {
    lin_queries = lin_queries / static_cast<double>(n);
  }
  Projected rows{pad_tokens(p.heads, padding).unflatten(2, {groups, size}).flatten(1, 2),
                 in_groups(pad_tokens(p.value, padding), size),
                 {}};
  auto out = attend_in_group(rows.head(kQuadQuery), rows.head(kQuadKey), rows.value,
                             rel_pos_bias_->forward(0, size, size));
  const bool is_reduced = options_.reduce_group_non_causal_attn;
  if (!is_reduced) {
    const auto products = batched_product(rows.head(kLinKey).transpose(1, 2), rows.value);
    out = out + batched_product(in_groups(pad_tokens(lin_queries, padding), size), products);
  }
  out = out.unflatten(0, {batch, groups}).flatten(1, 2).narrow(1, 0, n);
  if (is_reduced) {
    const auto product = batched_product(p.head(kLinKey).transpose(1, 2), p.value);
    out = out + batched_product(lin_queries, product);
  }
  return out;
}

/// Group by group from where the state stands.
at::Tensor FLASH::continue_groups(const Projected& p, FLASHState& state) {
  const auto n = p.value.size(1);
  std::vector<at::Tensor> parts;
  for (int64_t begin = 0; begin < n;) {
    const auto count = std::min(options_.group_size - state.in_group(), n - begin);
    const auto own = p.tokens(begin, count);
    const auto bias = bias_of_next(state, count);
    state.append(own.head(kQuadKey), own.head(kLinKey), own.value);
    auto out =
        attend_in_group(own.head(kQuadQuery), state.quad_keys.view(), state.values.view(), bias);
    if (state.before.defined()) out = out + batched_product(own.head(kLinQuery), state.before);
    parts.push_back(out);
    state.close_full_group();
    begin += count;
  }
  state.length += n;
  return parts.size() == 1 ? parts[0] : at::cat(parts, 1);
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
  require(x.size(1) > 0, "x: expected at least one token");
  require_tensor(inputs.mask, "mask", TensorKind::boolean,
                 {{"batch", x.size(0), true}, {"seq", x.size(1)}});
  BranchOutput output;
  if (inputs.context.defined()) {
    output.out = to_out_->forward(read_context(inputs)) + x;
    return output;
  }
  auto* state = inputs.state ? &dynamic_cast<FLASHState&>(*inputs.state) : nullptr;
  const auto reason = state ? cache_unsupported() : std::string();
  require(reason.empty(), "cache: " + reason);
  const auto p = project(inputs, state);
  const auto mixed = state             ? continue_groups(p, *state)
                     : options_.causal ? causal_groups(p)
                                       : all_groups(p, inputs.mask);
  output.out = to_out_->forward(mixed * p.gate) + x;
  return output;
}

}  // namespace x_transformers
