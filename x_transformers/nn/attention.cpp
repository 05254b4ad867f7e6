#include "x_transformers/nn/attention.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/core/tensor_check.h"
#include "x_transformers/core/warning.h"
#include "x_transformers/nn/fold_axially.h"
#include "x_transformers/nn/linear.h"
#include "x_transformers/nn/positions/rotary.h"
#include "x_transformers/ops/heads.h"
#include "x_transformers/ops/mask.h"
#include "x_transformers/ops/norm.h"

namespace x_transformers {

namespace {

/// [b, n, heads * d] -> [b, heads, n, d]
at::Tensor split_heads(const at::Tensor& t, int64_t heads) {
  return t.unflatten(-1, {heads, t.size(-1) / heads}).transpose(1, 2);
}

/// [b, heads, n, d] -> [b, n, heads * d]
at::Tensor merge_heads(const at::Tensor& t) { return t.transpose(1, 2).flatten(2); }

/// What is left of x [b, ...] without its part along y, each flattened (in double, as small parts
/// remain).
at::Tensor orthogonal_part(const at::Tensor& x, const at::Tensor& y) {
  const auto flat = x.flatten(1).to(at::kDouble);
  const auto direction = y.flatten(1).to(at::kDouble);
  const auto unit = direction / direction.norm(2, -1, true).clamp_min(1e-12);
  return (flat - (flat * unit).sum(-1, true) * unit).to(x.scalar_type()).view_as(x);
}

}  // namespace

/// Queries, keys and values on their way through the steps of forward.
struct AttentionImpl::Projected {
  at::Tensor q, k, v;            ///< [b, h, n, d], [b, kv_heads, j, d], [b, kv_heads, j, dv]
  at::Tensor x;                  ///< [b, n, dim] the input as the queries see it
  at::Tensor q_input;            ///< [b, n, d] what queries were made of
  at::Tensor orig_values;        ///< values as projected
  at::Tensor latent, sub_heads;  ///< what multi-latent attention caches
  int64_t mem_length = 0;        ///< keys at the front that are memory
};

void AttentionImpl::build_projections() {
  const auto& o = options_;
  const auto dim_q_input = o.use_latent_q ? *o.dim_latent_q : o.dim;
  const auto dim_kv = o.dim_context.value_or(o.dim);
  const auto dim_kv_input = o.use_latent_kv ? *o.dim_latent_kv : dim_kv;
  const auto rope_subheads = o.latent_rope_subheads.value_or(0);
  if (o.use_latent_q)
    to_latent_q_ = register_module("to_latent_q", linear_no_bias(o.dim, *o.dim_latent_q));
  if (o.use_latent_kv)
    to_latent_kv_ = register_module("to_latent_kv", linear_no_bias(o.dim, *o.dim_latent_kv));
  if (rope_subheads > 0) {
    to_rotateable_k_ =
        register_module("to_rotateable_k", linear_no_bias(o.dim, o.dim_head * rope_subheads));
  }
  to_q_ = register_module("to_q", linear_no_bias(dim_q_input, o.dim_head * o.heads));
  to_k_ = register_module("to_k",
                          linear_no_bias(dim_kv_input, o.dim_head * (kv_heads_ - rope_subheads)));
  to_v_ = register_module("to_v", linear_no_bias(dim_kv_input, value_dim_head_ * kv_heads_));
  if (o.qk_norm && o.qk_norm_dim_scale) {
    qk_norm_q_scale_ = register_parameter("qk_norm_q_scale", at::ones({o.heads, 1, o.dim_head}));
    qk_norm_k_scale_ = register_parameter("qk_norm_k_scale", at::ones({kv_heads_, 1, o.dim_head}));
  }
  if (o.value_rmsnorm) {
    value_rmsnorm_ = register_module("value_rmsnorm",
                                     std::make_shared<MultiheadRMSNorm>(value_dim_head_, o.heads));
  }
  if (o.num_mem_kv > 0) {
    mem_k_ = register_parameter("mem_k", at::randn({kv_heads_, o.num_mem_kv, o.dim_head}));
    mem_v_ = register_parameter("mem_v", at::randn({kv_heads_, o.num_mem_kv, value_dim_head_}));
  }
  if (o.learned_value_residual_mix) {
    auto scope = register_module("to_value_residual_mix", make_scope());
    to_value_residual_mix_ = scope->register_module("0", Linear(o.dim, o.heads));
  }
}

void AttentionImpl::build_outputs() {
  const auto& o = options_;
  constexpr double kOpenGate = 10.0;
  const auto out_dim = value_dim_head_ * o.heads;
  const auto open_gate = [&](const char* name, int64_t features) {
    auto layer = register_module(name, Linear(o.dim, features));
    torch::NoGradGuard no_grad;
    layer->weight.zero_();
    layer->bias.fill_(kOpenGate);
    return layer;
  };
  if (o.gate_values) to_v_gate_ = open_gate("to_v_gate", out_dim);
  if (o.gate_value_heads) to_v_head_gate_ = open_gate("to_v_head_gate", o.heads);
  if (o.head_scale)
    head_scale_params_ = register_parameter("head_scale_params", at::ones({1, o.heads, 1, 1}));

  const auto copies =
      std::max(1, int{o.orthog_projected_values} + int{o.orthog_projected_values_per_head});
  const auto dim_out = o.dim_out.value_or(o.dim);
  if (o.on_attn) {
    auto scope = register_module("to_out", make_scope());
    to_out_ = scope->register_module("0", linear_no_bias(out_dim * copies, dim_out * 2));
  } else {
    to_out_ = register_module("to_out", linear_no_bias(out_dim * copies, dim_out));
  }
  if (o.zero_init_output) zero_init(to_out_);
}

void AttentionImpl::build_hybrid() {
  const auto& o = options_;
  hybrid_module_ =
      fold_axially(*o.hybrid_fold_axial_dim, make_callable(*o.hybrid_module, "hybrid_module"));
  register_module("hybrid_module", hybrid_module_.module);
  auto norms = register_module("hybrid_norms", make_scope());
  hybrid_out_norm_ =
      norms->register_module("0", std::make_shared<MultiheadRMSNorm>(value_dim_head_, o.heads));
  hybrid_norm_ =
      norms->register_module("1", std::make_shared<MultiheadRMSNorm>(value_dim_head_, o.heads));
  if (o.hybrid_learned_mix)
    hybrid_mix_ = register_module("hybrid_mix", linear_no_bias(o.dim, o.heads));
}

AttentionImpl::AttentionImpl(AttentionOptions options) : options_(std::move(options)) {
  validate(options_);
  warn_unused(unused_options(options_));
  const auto& o = options_;
  kv_heads_ = o.one_kv_head ? 1 : o.kv_heads.value_or(o.heads);
  value_dim_head_ = o.value_dim_head.value_or(o.dim_head);
  rotate_num_heads_ = o.latent_rope_subheads.value_or(o.rotate_num_heads.value_or(o.heads));
  build_projections();
  build_outputs();
  if (o.hybrid_module) build_hybrid();

  std::shared_ptr<CoPE> cope;
  if (o.use_cope) {
    cope = std::make_shared<CoPE>(o.dim_head, o.heads, o.cope_max_pos, o.cope_soft_onehot_pos,
                                  o.cope_talking_heads);
  }
  const auto& alibi = o.data_dependent_alibi_kwargs;
  if (o.data_dependent_alibi && o.data_dependent_alibi_per_row) {
    per_row_alibi_ = register_module(
        "data_dependent_alibi",
        std::make_shared<PerRowDataDependentAlibi>(
            o.dim, o.heads, o.data_dependent_alibi_per_row_dim_head, alibi.post_log_scale));
  } else if (o.data_dependent_alibi) {
    data_dependent_alibi_ =
        register_module("data_dependent_alibi",
                        std::make_shared<DataDependentAlibi>(
                            o.dim, o.heads, o.causal, alibi.bias_init, alibi.post_log_scale));
  }

  AttendOptions attend;
  static_cast<ScoreOptions&>(attend) = o;
  attend.heads = o.heads;
  attend.causal = o.causal;
  attend.qk_norm = o.qk_norm;
  attend.scale = o.qk_norm ? o.qk_norm_scale : 1.0 / std::sqrt(static_cast<double>(o.dim_head));
  attend_ = register_module("attend", std::make_shared<Attend>(attend, cope));
}

int64_t AttentionImpl::cached_features() const {
  const auto& o = options_;
  if (o.use_latent_kv) return *o.dim_latent_kv + o.latent_rope_subheads.value_or(0) * o.dim_head;
  return kv_heads_ * (o.dim_head + value_dim_head_);
}

std::string AttentionImpl::cache_refusal() const {
  if (options_.flash_pack_seq) return "flash_pack_seq: packed sequences are given whole";
  if (hybrid_module_ && !hybrid_module_.is_causal) return "hybrid_module may look at later tokens";
  if (options_.selective) return "selective attention changes the scores of past queries";
  if (options_.data_dependent_alibi && !options_.causal) {
    return "data_dependent_alibi without causal needs the gates of later tokens";
  }
  if (options_.orthog_projected_values || options_.orthog_projected_values_per_head) {
    return "orthogonal projected values are taken over the whole sequence";
  }
  if (options_.use_latent_kv && options_.learned_value_residual_mix) {
    return "a learned value residual mix needs the inputs of all tokens, where latents are cached "
           "in place of values";
  }
  return {};
}

/// Multi-latent attention: what keys and values are made of is itself what is cached.
void AttentionImpl::project_latent(const AttentionInputs& inputs, Projected& p) {
  const auto kv_input = p.k;
  p.latent = to_latent_kv_->forward(kv_input);
  if (to_rotateable_k_)
    p.sub_heads = split_heads(to_rotateable_k_->forward(kv_input), *options_.latent_rope_subheads);
  if (inputs.cache) std::tie(p.latent, p.sub_heads) = inputs.cache->append(p.latent, p.sub_heads);
  p.k = split_heads(to_k_->forward(p.latent), to_k_->options.out_features() / options_.dim_head);
  p.v = split_heads(to_v_->forward(p.latent), kv_heads_);
  if (p.sub_heads.defined()) p.k = at::cat({p.k, p.sub_heads}, 1);
}

AttentionImpl::Projected AttentionImpl::project(const AttentionInputs& inputs) {
  Projected p;
  at::Tensor k_input, v_input;
  if (options_.qkv_receive_diff_residuals) {
    p.q_input = inputs.x[0];
    k_input = inputs.x[1];
    v_input = inputs.x[2];
  } else {
    p.q_input = inputs.x;
    k_input = v_input = inputs.context.defined() ? inputs.context : inputs.x;
  }
  if (inputs.kv_input_residual.defined()) {
    k_input = k_input + inputs.kv_input_residual;
    v_input = v_input + inputs.kv_input_residual;
  }
  if (inputs.mem.defined()) {
    p.mem_length = inputs.mem.size(1);
    v_input = at::cat({inputs.mem, v_input}, 1);
    k_input = options_.qkv_receive_diff_residuals ? at::cat({inputs.mem, k_input}, 1) : v_input;
  }
  p.x = p.q_input;
  if (to_latent_q_) p.q_input = to_latent_q_->forward(p.q_input);
  p.q = split_heads(to_q_->forward(p.q_input), options_.heads);
  if (to_latent_kv_) {
    p.k = std::move(k_input);
    project_latent(inputs, p);
  } else {
    p.k = split_heads(to_k_->forward(k_input), kv_heads_);
    p.v = split_heads(to_v_->forward(v_input), kv_heads_);
  }
  p.orig_values = p.v;
  return p;
}

/// Value residual (arXiv:2410.17897) and value norm.
void AttentionImpl::mix_values(const AttentionInputs& inputs, Projected& p) {
  if (inputs.value_residual.defined()) {
    const auto& residual = inputs.value_residual;
    const bool has_all_heads =
        to_value_residual_mix_ && residual.dim() == 4 && residual.size(1) == options_.heads;
    require_broadcast(residual, "value_residual", TensorKind::floating,
                      {{"batch", p.v.size(0)},
                       {"heads", has_all_heads ? options_.heads : p.v.size(1)},
                       {"keys", p.v.size(2)},
                       {"value_dim_head", p.v.size(3)}});
    if (to_value_residual_mix_) {
      const auto mix = to_value_residual_mix_->forward(p.x).sigmoid().transpose(1, 2).unsqueeze(-1);
      p.v = at::lerp(repeat_heads(inputs.value_residual, options_.heads),
                     repeat_heads(p.v, options_.heads), mix);
    } else {
      p.v = at::lerp(inputs.value_residual, p.v, 0.5);
    }
  }
  if (value_rmsnorm_) p.v = value_rmsnorm_->forward(repeat_heads(p.v, options_.heads));
}

void AttentionImpl::normalise_qk(Projected& p) const {
  if (!options_.qk_norm) return;
  p.q = l2norm(p.q, options_.qk_norm_groups);
  p.k = l2norm(p.k, options_.qk_norm_groups);
  if (qk_norm_q_scale_.defined()) {
    p.q = p.q * qk_norm_q_scale_;
    p.k = p.k * qk_norm_k_scale_;
  }
}

at::Tensor AttentionImpl::turn_heads(
    const at::Tensor& t, const std::function<at::Tensor(const at::Tensor&)>& turn) const {
  return turn_last_heads(t, rotate_num_heads_, options_.heads, turn);
}

at::Tensor AttentionImpl::rotate_keys(const at::Tensor& keys, const RotaryAngles& angles,
                                      int64_t new_tokens) const {
  const auto positions = angles.freqs.size(-2), needed = keys.size(2) + new_tokens;
  require(positions >= needed,
          fmt::format("rotary_pos_emb: expected angles of {} positions, cached "
                      "ones among them, got {}",
                      needed, positions));
  const auto used = angles.rows(keys.size(2), new_tokens);
  return turn_heads(keys, [&](const at::Tensor& t) { return apply_rotary_angles(t, used, true); });
}

/// What Python keeps in its cache of the tokens given: keys before rotation and values, memories
/// left out.
std::pair<at::Tensor, at::Tensor> AttentionImpl::unrotated(const Projected& p) const {
  if (to_latent_kv_) return {p.latent, p.sub_heads};
  const auto sequence = [&](const at::Tensor& t) {
    return t.narrow(2, p.mem_length, t.size(2) - p.mem_length);
  };
  return {sequence(p.k), sequence(p.v)};
}

void AttentionImpl::rotate(const AttentionInputs& inputs, Projected& p) const {
  if (inputs.rotary && inputs.rotary->angles.defined()) {
    const auto& angles = inputs.rotary->angles;
    const auto& context = inputs.rotary->context_angles;
    const auto& key_angles = inputs.context.defined() && context.defined() ? context : angles;
    const bool has_table = inputs.context.defined() && inputs.rotary->keys.cos.defined();
    require_angles(angles.freqs, p.q, "rotary_pos_emb");
    if (!has_table) {
      require_angles(key_angles.freqs, p.k,
                     context.defined() ? "context_rotary_pos_emb" : "rotary_pos_emb");
    }
    p.q =
        turn_heads(p.q, [&](const at::Tensor& t) { return apply_rotary_angles(t, angles, false); });
    p.k = turn_heads(p.k, [&](const at::Tensor& t) {
      return has_table ? apply_rotary(t, inputs.rotary->keys, true)
                       : apply_rotary_angles(t, key_angles, true);
    });
  } else if (inputs.rotary) {
    const bool rotates_all_keys = to_latent_kv_ && inputs.cache;
    const auto& key_table = rotates_all_keys ? inputs.rotary->all_keys : inputs.rotary->keys;
    p.q = turn_heads(
        p.q, [&](const at::Tensor& t) { return apply_rotary(t, inputs.rotary->queries, false); });
    p.k = turn_heads(p.k, [&](const at::Tensor& t) { return apply_rotary(t, key_table, true); });
  }
  if (inputs.polar) {
    require_angles(inputs.polar->queries, p.q, "polar_pos_emb");
    require_angles(inputs.polar->keys, p.k, "polar_pos_emb");
    p.q = apply_polar_pos_emb(p.q, inputs.polar->queries);
    // The angles of keys have a bias for each query head.
    p.k = repeat_heads(p.k, options_.heads);
    p.v = repeat_heads(p.v, options_.heads);
    p.k = apply_polar_pos_emb(p.k, inputs.polar->keys);
  }
}

/// Keys that have no position, as xpos scales them.
at::Tensor AttentionImpl::without_position(const AttentionInputs& inputs,
                                           const at::Tensor& keys) const {
  if (!inputs.rotary || !inputs.rotary->scale_without_position.defined()) return keys;
  const auto scale = inputs.rotary->scale_without_position.repeat_interleave(2);
  return turn_heads(keys, [&](const at::Tensor& t) {
    const auto d = scale.size(0);
    return at::cat({t.narrow(-1, 0, d) * scale, t.narrow(-1, d, t.size(-1) - d)}, -1);
  });
}

void AttentionImpl::append_to_cache(const AttentionInputs& inputs, Projected& p) const {
  if (!inputs.cache || to_latent_kv_) return;
  if (p.mem_length == 0 || inputs.cache->length() == 0) {
    std::tie(p.k, p.v) = inputs.cache->append(p.k, p.v);
    return;
  }
  // Memories that come with later tokens stand before what is cached, and are not kept.
  const auto split = [&](const at::Tensor& t) {
    return std::pair{t.narrow(2, 0, p.mem_length),
                     t.narrow(2, p.mem_length, t.size(2) - p.mem_length)};
  };
  const auto [mem_k, new_k] = split(p.k);
  const auto [mem_v, new_v] = split(p.v);
  const auto [k, v] = inputs.cache->append(new_k, new_v);
  p.k = at::cat({mem_k, k}, 2);
  p.v = at::cat({mem_v, v}, 2);
}

/// Which keys of the sequence exist, [b, sequence_keys] or undefined; memories are in front of the
/// sequence.
at::Tensor AttentionImpl::key_mask(const AttentionInputs& inputs, int64_t sequence_keys) const {
  auto mask = inputs.context_mask;
  if (!mask.defined() && !inputs.context.defined()) mask = inputs.mask;
  const auto memory = inputs.mem.defined() ? inputs.mem.size(1) : 0;
  const bool may_have_memories = memory > 0 || inputs.cache;
  if (inputs.mem_mask.defined() && may_have_memories) {
    const auto rest = sequence_keys - inputs.mem_mask.size(-1);
    if (!mask.defined()) return at::constant_pad_nd(inputs.mem_mask, {0, rest}, 1);
    if (mask.size(-1) == rest) return at::cat({inputs.mem_mask, mask}, -1);
  }
  if (!mask.defined()) return mask;
  if (mask.size(-1) == 1) return mask.expand({-1, sequence_keys});
  const auto given = mask.size(-1), tokens = sequence_keys - memory - inputs.cached_memory;
  const bool is_of_new = inputs.cache && given == inputs.x.size(-2);
  require(given == sequence_keys || given == tokens || is_of_new,
          fmt::format("{}: expected one entry for each of {} keys, got {}",
                      inputs.context_mask.defined() ? "context_mask" : "mask", tokens, given));
  return pad_mask_left(mask, sequence_keys - given);
}

/// Learned and given keys and values in front of the sequence; returns the key mask widened for
/// them.
at::Tensor AttentionImpl::add_memory_key_values(const AttentionInputs& inputs, Projected& p,
                                                at::Tensor mask) const {
  const auto batch = p.q.size(0);
  if (options_.num_mem_kv > 0) {
    auto mem_k = mem_k_.unsqueeze(0);
    if (options_.qk_norm) {
      mem_k = l2norm(mem_k);
      if (qk_norm_k_scale_.defined()) mem_k = mem_k * qk_norm_k_scale_;
    }
    mem_k = without_position(inputs, mem_k);
    // Memories have no place of their own: polar positions leave them at angle zero.
    if (inputs.polar) mem_k = apply_polar_pos_emb(mem_k, at::zeros(mem_k.sizes(), mem_k.options()));
    const auto mem_v = mem_v_.unsqueeze(0);
    p.k = at::cat({repeat_heads(mem_k, p.k.size(1)).expand({batch, -1, -1, -1}), p.k}, 2);
    p.v = at::cat({repeat_heads(mem_v, p.v.size(1)).expand({batch, -1, -1, -1}), p.v}, 2);
    mask = pad_mask_left(mask, options_.num_mem_kv);
  }
  if (!inputs.additional_key_values.first.defined()) return mask;
  const auto added_k = without_position(inputs, inputs.additional_key_values.first);
  const auto& added_v = inputs.additional_key_values.second;
  const bool same_heads = added_k.size(1) == kv_heads_;
  const auto heads = same_heads ? p.k.size(1) : options_.heads;
  const auto sequence_keys = p.k.size(2);
  p.k = at::cat({repeat_heads(added_k, heads), repeat_heads(p.k, heads)}, 2);
  const auto value_heads = std::max(heads, p.v.size(1));
  p.v = at::cat({repeat_heads(added_v, value_heads), repeat_heads(p.v, value_heads)}, 2);
  const auto& added_mask = inputs.additional_key_value_mask;
  if (!added_mask.defined()) return pad_mask_left(mask, added_k.size(2));
  if (!mask.defined()) return at::constant_pad_nd(added_mask, {0, sequence_keys}, 1);
  return at::cat({added_mask, mask}, -1);
}

namespace {
/// What is given for pairs of query and key, where one entry stands for all keys, with one for
/// each.
at::Tensor spread_over_keys(const at::Tensor& pairs, int64_t sequence_keys, int64_t keys) {
  if (pairs.defined() && pairs.dim() == 0) return pairs.expand({keys});
  if (!pairs.defined() || pairs.size(-1) != 1 || sequence_keys == 1) return pairs;
  auto sizes = pairs.sizes().vec();
  sizes.back() = keys;
  return pairs.expand(sizes);
}

/// Which keys are at most `max_attend_past` tokens before each query, [queries, keys].
at::Tensor window_of(const AttentionInputs& inputs, int64_t queries, int64_t keys,
                     int64_t max_attend_past) {
  const bool is_fixed = inputs.cache && inputs.cache->position().defined();
  if (!is_fixed) return window_mask(queries, keys, max_attend_past, inputs.x.device());
  // The query does not stand at the last key, but where the cache has been filled to.
  const auto& position = inputs.cache->position();
  return (position.unsqueeze(-1) - at::arange(keys, position.options())) <= max_attend_past;
}
}  // namespace

/// Masks of pairs of query and key, broadcastable to [b, h, i, keys], or undefined.
at::Tensor AttentionImpl::pair_mask(const AttentionInputs& inputs, int64_t queries,
                                    int64_t sequence_keys, int64_t keys) const {
  at::Tensor mask;
  if (inputs.attn_mask.defined()) {
    mask = inputs.attn_mask;
    while (mask.dim() < 4) mask = mask.unsqueeze(0);
    mask = spread_over_keys(mask, sequence_keys, keys);
    mask = pad_mask_left(mask, keys - mask.size(-1));
  }
  if (options_.max_attend_past) {
    const auto window = window_of(inputs, queries, sequence_keys, *options_.max_attend_past);
    mask = mask_and(mask, pad_mask_left(window, keys - sequence_keys).unsqueeze(0).unsqueeze(0));
  }
  return mask;
}

namespace {
/// The bias of a rel_pos: queries stand at the end of the keys, or where `pos` says.
at::Tensor bias_of(const AttentionInputs& inputs, int64_t queries, int64_t sequence_keys) {
  require(!inputs.attn_bias.defined(), "rel_pos and attn_bias: at most one of them");
  if (inputs.pos.defined()) {
    require(dynamic_cast<AlibiPositionalBias*>(inputs.rel_pos) != nullptr,
            "pos: of the position biases only AlibiPositionalBias takes positions from outside");
    return inputs.rel_pos->forward({inputs.pos, inputs.pos, 0});
  }
  const auto options = at::TensorOptions().dtype(at::kLong).device(inputs.x.device());
  return inputs.rel_pos->forward({at::arange(sequence_keys - queries, sequence_keys, options),
                                  at::arange(sequence_keys, options),
                                  std::max(queries, sequence_keys)});
}

}  // namespace

at::Tensor AttentionImpl::position_bias(const AttentionInputs& inputs, const at::Tensor& x,
                                        int64_t sequence_keys, int64_t keys) {
  if (inputs.pos.defined() && !inputs.rel_pos)
    warn_unused("pos: changes nothing, there is no rel_pos to take it");
  auto bias = inputs.rel_pos ? bias_of(inputs, x.size(1), sequence_keys)
                             : spread_over_keys(inputs.attn_bias, sequence_keys, keys);
  auto* earlier = inputs.cache && options_.causal ? &inputs.cache->gates : nullptr;
  if (data_dependent_alibi_) bias = data_dependent_alibi_->forward(x, earlier);
  if (per_row_alibi_) bias = per_row_alibi_->forward(x, earlier);
  require(!inputs.rel_pos || bias.size(-3) == options_.heads,
          fmt::format("rel_pos: has {} heads, expected heads = {}",
                      inputs.rel_pos ? bias.size(-3) : 0, options_.heads));
  if (!bias.defined() || bias.size(-1) == keys) return bias;
  return at::constant_pad_nd(bias, {keys - bias.size(-1), 0}, 0);
}

/// Factors and gates on the heads' outputs [b, h, n, d].
at::Tensor AttentionImpl::gate(const at::Tensor& x, at::Tensor out) {
  if (options_.laser) out = out.clamp_min(1e-20).log();
  if (head_scale_params_.defined()) out = out * head_scale_params_;
  if (to_v_head_gate_) {
    out = out * to_v_head_gate_->forward(x).sigmoid().transpose(1, 2).unsqueeze(-1);
  }
  return out;
}

/// The heads' outputs [b, h, n, d] mixed with those of the hybrid module, both normed.
at::Tensor AttentionImpl::mix_hybrid(const AttentionInputs& inputs, const at::Tensor& x,
                                     at::Tensor out, AttentionOutput& result) {
  CallableModule::NamedTensors arguments;
  if (!options_.causal && options_.hybrid_mask_kwarg && inputs.mask.defined()) {
    arguments[*options_.hybrid_mask_kwarg] = inputs.mask;
  }
  if (inputs.hybrid_hidden.defined()) arguments["hx"] = inputs.hybrid_hidden;
  const bool goes_on = inputs.cache && hybrid_module_.is_causal && !inputs.hybrid_hidden.defined();
  auto hybrid = hybrid_module_.call(goes_on ? inputs.cache->hybrid_inputs.append(x) : x, arguments);
  if (goes_on) {
    const auto sequence = hybrid.out.dim() == 4 ? 2 : 1;
    hybrid.out = hybrid.out.index_select(sequence, inputs.cache->hybrid_inputs.places(x.size(1)));
  }
  result.hybrid_hidden = hybrid.hidden;
  const auto features = value_dim_head_ * options_.heads;
  require(hybrid.out.dim() == 4 || hybrid.out.size(-1) == features,
          fmt::format("hybrid_module: expected heads * dim_head = {} features, got {}", features,
                      hybrid.out.size(-1)));
  const auto heads = hybrid.out.dim() == 4 ? hybrid.out : split_heads(hybrid.out, options_.heads);
  out = hybrid_out_norm_->forward(out);
  const auto other = hybrid_norm_->forward(heads);
  if (!hybrid_mix_) return 0.5 * (out + other);
  const auto mix = hybrid_mix_->forward(x).sigmoid().transpose(1, 2).unsqueeze(-1);
  return at::lerp(out, other, mix);
}

at::Tensor AttentionImpl::project_orthogonally(const at::Tensor& out,
                                               const at::Tensor& values) const {
  const auto own = merge_heads(repeat_heads(values, options_.heads));
  std::vector<at::Tensor> parts;
  // Python flattens tokens and heads before projecting, in both forms.
  if (options_.orthog_projected_values) parts.push_back(orthogonal_part(out, own));
  if (options_.orthog_projected_values_per_head) parts.push_back(orthogonal_part(out, own));
  return at::cat(parts, -1);
}

at::Tensor AttentionImpl::output(const at::Tensor& x, const Projected& p, at::Tensor out) {
  if (to_v_gate_) {
    const auto gates = to_v_gate_->forward(x);
    out = out * (options_.swiglu_values ? at::silu(gates) : gates.sigmoid());
  }
  if (options_.orthog_projected_values || options_.orthog_projected_values_per_head) {
    require(p.orig_values.size(2) >= out.size(1),
            fmt::format("orthog_projected_values: need a value for each of {} queries, but the "
                        "context has {}",
                        out.size(1), p.orig_values.size(2)));
    const auto own = p.orig_values.narrow(2, p.orig_values.size(2) - out.size(1), out.size(1));
    out = project_orthogonally(out, own);
  }
  out = to_out_->forward(out);
  if (options_.on_attn) out = at::glu(out, -1);
  if (options_.sublayer_dropout > 0)
    out = at::dropout(out, options_.sublayer_dropout, is_training());
  return out;
}

AttentionOutput AttentionImpl::forward(const AttentionInputs& inputs) {
  check(inputs);
  // A context whose keys and values are cached is not projected again.
  const bool goes_on = inputs.cache && inputs.cache->length() > 0;
  const bool has_cached_context = inputs.context.defined() && goes_on;
  auto used = inputs;
  if (has_cached_context) {
    used.context = inputs.context.narrow(1, 0, 0);
    used.kv_input_residual = at::Tensor();
  }

  auto p = project(used);
  mix_values(used, p);
  normalise_qk(p);
  AttentionOutput result;
  if (inputs.keep_unrotated) result.unrotated_kv = unrotated(p);
  rotate(used, p);
  append_to_cache(used, p);

  const auto queries = p.q.size(2), sequence_keys = p.k.size(2);
  const auto key_visible = add_memory_key_values(used, p, key_mask(used, sequence_keys));
  const auto keys = p.k.size(2);
  check_pairs(used, queries, sequence_keys, keys);
  if (options_.laser) {
    p.v = ((p.v / options_.laser_softclamp_value).tanh() * options_.laser_softclamp_value).exp();
  }

  Attend::Call call;
  call.mask = pair_mask(used, queries, sequence_keys, keys);
  if (key_visible.defined()) call.mask = mask_and(call.mask, key_visible.unsqueeze(1).unsqueeze(1));
  const bool only_filled = used.cache && !used.context.defined() && queries == 1 &&
                           keys == sequence_keys && !key_visible.defined() &&
                           !options_.max_attend_past;
  if (only_filled) call.filled = used.cache->filled_keys();
  call.attn_bias = position_bias(used, p.x, sequence_keys, keys);
  call.prev_attn = used.prev_attn;
  call.keep_maps = used.keep_maps;
  call.packed = used.packed;
  call.shared_keys = keys - sequence_keys;
  auto attended = attend_->forward(p.q, p.k, p.v, call);

  auto heads = gate(p.x, attended.out);
  if (hybrid_module_) heads = mix_hybrid(inputs, p.x, heads, result);
  result.out = output(p.x, p, merge_heads(heads));
  if (!goes_on) result.out = zero_masked_rows(result.out, inputs.mask);
  result.maps = std::move(attended.maps);
  result.values = p.orig_values;
  return result;
}

}  // namespace x_transformers
