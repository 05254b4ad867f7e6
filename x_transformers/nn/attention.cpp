#include "x_transformers/nn/attention.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/core/tensor_check.h"
#include "x_transformers/ops/heads.h"
#include "x_transformers/ops/mask.h"
#include "x_transformers/ops/norm.h"
#include "x_transformers/ops/rows.h"

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

int64_t AttentionImpl::cached_features() const {
  const auto& o = options_;
  if (o.use_latent_kv) return *o.dim_latent_kv + o.latent_rope_subheads.value_or(0) * o.dim_head;
  return kv_heads_ * (o.dim_head + value_dim_head_);
}

std::string AttentionImpl::sight() const {
  std::string text = AttendUser::sight();
  if (options_.max_attend_past)
    text += fmt::format(", {} tokens back at most", *options_.max_attend_past);
  if (options_.num_mem_kv > 0)
    text += fmt::format(", and {} memory keys and values", options_.num_mem_kv);
  return text;
}

AttendCall AttentionImpl::usual_call(int64_t tokens) const {
  const auto tensor = [&](int64_t heads, int64_t d) {
    return at::zeros({1}).expand({1, heads, tokens, d});
  };
  return {tensor(options_.heads, options_.dim_head), tensor(kv_heads_, options_.dim_head),
          tensor(kv_heads_, value_dim_head_), attend_->program(options_.dim_head, {})};
}

std::string AttentionImpl::cache_unsupported() const {
  if (hybrid_module_ && !hybrid_module_.is_causal) return "hybrid_module may look at later tokens";
  return whole_sequence_unsupported();
}

/// Which option, other than a hybrid module, needs the whole sequence.
std::string AttentionImpl::whole_sequence_unsupported() const {
  if (options_.flash_pack_seq) return "flash_pack_seq: packed sequences are given whole";
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

std::string AttentionImpl::context_cache_unsupported() const {
  const auto reason = cache_unsupported();
  if (!reason.empty() || !options_.max_attend_past) return reason;
  return "max_attend_past in cross attention counts back from the last query, which moves as the "
         "sequence grows";
}

std::string AttentionImpl::given_cache_unsupported(const GivenState& given) const {
  if (options_.data_dependent_alibi) {
    return "data_dependent_alibi needs the gates of earlier tokens, which keys and values do not "
           "tell";
  }
  if (!hybrid_module_) return cache_unsupported();
  if (!given.hidden.defined())
    return "hybrid_module needs its state, hybrid_hidden, beside the keys and values";
  return whole_sequence_unsupported();
}

/// Multi-latent attention: what keys and values are made of is itself what is cached.
void AttentionImpl::project_latent(const AttentionInputs& inputs, Projected& p) {
  const auto kv_input = p.k;
  p.latent = to_latent_kv_->forward(kv_input);
  if (to_rotateable_k_)
    p.sub_heads = split_heads(to_rotateable_k_->forward(kv_input), *options_.latent_rope_subheads);
  if (inputs.cache) std::tie(p.latent, p.sub_heads) = inputs.cache->append(p.latent, p.sub_heads);
  // There may be none: all heads may skip the latent.
  const auto latent_heads = to_k_->options.out_features() / options_.dim_head;
  p.k = to_k_->forward(p.latent).unflatten(-1, {latent_heads, options_.dim_head}).transpose(1, 2);
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
    v_input = cat_rows(inputs.mem, v_input, 1);
    k_input = options_.qkv_receive_diff_residuals ? cat_rows(inputs.mem, k_input, 1) : v_input;
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
                      {{"batch", p.q.size(0)},
                       {"heads", has_all_heads ? options_.heads : p.v.size(1)},
                       {"keys", p.v.size(2)},
                       {"value_dim_head", p.v.size(3)}});
    if (to_value_residual_mix_) {
      const auto mixes = p.x.size(1), values = p.v.size(2);
      require(mixes == 1 || mixes == values,
              fmt::format("learned_value_residual_mix: has a mix for each of {} queries, but there "
                          "are {} values",
                          mixes, values));
      const auto mix = to_value_residual_mix_->forward(p.x).sigmoid().transpose(1, 2).unsqueeze(-1);
      p.v = at::lerp(repeat_heads(inputs.value_residual, options_.heads),
                     repeat_heads(p.v, options_.heads), mix);
    } else {
      p.v = at::lerp(inputs.value_residual, p.v, 0.5);
    }
    p.k = with_rows(p.k, p.v.size(0));
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

/// What Python keeps in its cache of the tokens given: keys before rotation and values, memories
/// left out.
std::pair<at::Tensor, at::Tensor> AttentionImpl::unrotated(const Projected& p) const {
  if (to_latent_kv_) return {p.latent, p.sub_heads};
  const auto sequence = [&](const at::Tensor& t) {
    return t.narrow(2, p.mem_length, t.size(2) - p.mem_length);
  };
  return {sequence(p.k), sequence(p.v)};
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
    if (mask.size(-1) == rest) return cat_rows(inputs.mem_mask, mask, -1);
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
    p.k = cat_rows(repeat_heads(mem_k, p.k.size(1)), p.k, 2);
    p.v = cat_rows(repeat_heads(mem_v, p.v.size(1)), p.v, 2);
    mask = pad_mask_left(mask, options_.num_mem_kv);
  }
  if (!inputs.additional_key_values.first.defined()) return mask;
  const auto added_k = without_position(inputs, inputs.additional_key_values.first);
  const auto& added_v = inputs.additional_key_values.second;
  const bool same_heads = added_k.size(1) == kv_heads_;
  const auto heads = same_heads ? p.k.size(1) : options_.heads;
  const auto sequence_keys = p.k.size(2);
  p.k = cat_rows(repeat_heads(added_k, heads), repeat_heads(p.k, heads), 2);
  const auto value_heads = std::max(heads, p.v.size(1));
  p.v = cat_rows(repeat_heads(added_v, value_heads), repeat_heads(p.v, value_heads), 2);
  const auto& added_mask = inputs.additional_key_value_mask;
  if (!added_mask.defined()) return pad_mask_left(mask, added_k.size(2));
  if (!mask.defined()) return at::constant_pad_nd(added_mask, {0, sequence_keys}, 1);
  return cat_rows(added_mask, mask, -1);
}

namespace {
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

/// Factors and gates on the heads' outputs [b, h, n, d].
at::Tensor AttentionImpl::gate(const at::Tensor& x, at::Tensor out) {
  if (options_.laser) out = out.clamp_min(1e-20).log();
  if (head_scale_params_.defined()) out = out * head_scale_params_;
  if (to_v_head_gate_) {
    out = out * to_v_head_gate_->forward(x).sigmoid().transpose(1, 2).unsqueeze(-1);
  }
  return out;
}

namespace {
/// x [b, n, d] with each batch entry's tokens from `start` [b or 1] on in front, and what stood
/// before them at the end.
at::Tensor from_start(const at::Tensor& x, const at::Tensor& start) {
  const auto n = x.size(1);
  const auto source = (at::arange(n, start.options()) + start.unsqueeze(-1)).remainder(n);
  return x.gather(1, source.unsqueeze(-1).expand_as(x));
}

/// The entries `places` ([b or 1, count]) of t [b, n, d] or [b, h, n, d].
at::Tensor entries_at(const at::Tensor& t, const at::Tensor& places) {
  auto sizes = t.sizes().vec();
  sizes[sizes.size() - 2] = places.size(-1);
  auto index = places.unsqueeze(-1);
  if (t.dim() == 4) index = index.unsqueeze(1);
  return t.gather(-2, index.expand(sizes));
}
}  // namespace

/// What the hybrid module makes of the tokens x, seeing the earlier ones in a cache.
CallableModule::Result AttentionImpl::run_hybrid(const AttentionInputs& inputs,
                                                 const at::Tensor& x) const {
  CallableModule::NamedTensors arguments;
  if (!options_.causal && options_.hybrid_mask_kwarg && inputs.mask.defined()) {
    arguments[*options_.hybrid_mask_kwarg] = inputs.mask;
  }
  if (inputs.hybrid_hidden.defined()) arguments["hx"] = inputs.hybrid_hidden;
  const bool starts = hybrid_module_.is_causal && !inputs.hybrid_hidden.defined();
  const bool goes_on = inputs.cache && starts;
  auto tokens = goes_on ? inputs.cache->hybrid_inputs.append(x) : x;
  // A causal module does not see the padding where it stands after a prompt.
  const bool is_padded = starts && inputs.seq_start_pos.defined() && !hybrid_module_.is_per_token;
  if (is_padded) tokens = from_start(tokens, inputs.seq_start_pos);
  auto hybrid = hybrid_module_.call(tokens, arguments);
  if (!goes_on && !is_padded) return hybrid;
  auto places = goes_on ? inputs.cache->hybrid_inputs.places(x.size(1))
                        : at::arange(x.size(1), inputs.seq_start_pos.options());
  if (is_padded) {
    places = (places - inputs.seq_start_pos.unsqueeze(-1)).remainder(tokens.size(1));
    hybrid.out = entries_at(hybrid.out, places);
  } else {
    hybrid.out = hybrid.out.index_select(-2, places);
  }
  return hybrid;
}

/// The heads' outputs [b, h, n, d] mixed with those of the hybrid module, both normed.
at::Tensor AttentionImpl::mix_hybrid(const AttentionInputs& inputs, const at::Tensor& x,
                                     at::Tensor out, AttentionOutput& result) {
  const auto hybrid = run_hybrid(inputs, x);
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
  auto read = inputs;
  drop_unread(read);
  return attend(std::move(read));
}

BranchOutput AttentionImpl::run(const BranchInputs& branch) {
  AttentionInputs inputs;
  static_cast<BranchInputs&>(inputs) = branch;
  if (branch.mixing) static_cast<MixingInputs&>(inputs) = *branch.mixing;
  inputs.cache = static_cast<AttentionState*>(branch.state);
  if (inputs.cache) inputs.hybrid_hidden = inputs.cache->hybrid_hidden;
  return attend(std::move(inputs));
}

std::unique_ptr<BlockState> AttentionImpl::make_state(const StateOptions& options) const {
  auto state = std::make_unique<AttentionState>();
  state->is_context = options.has_context;
  state->reserve(options.capacity);
  return state;
}

AttentionOutput AttentionImpl::attend(AttentionInputs inputs) {
  // As in Python, one batch entry beside several is repeated; with a cache it stands for itself.
  if (!inputs.cache && inputs.x.dim() >= 3 && inputs.x.size(-3) == 1)
    inputs.x = with_rows(inputs.x, count_batch_entries(inputs), inputs.x.dim() - 3);
  check(inputs);
  // A context whose keys and values are cached is not projected again.
  const bool goes_on = inputs.cache && inputs.cache->length() > 0;
  if (inputs.context.defined() && goes_on) {
    inputs.context = inputs.context.narrow(1, 0, 0);
    inputs.kv_input_residual = at::Tensor();
  }

  auto p = project(inputs);
  mix_values(inputs, p);
  normalise_qk(p);
  AttentionOutput result;
  if (inputs.keep_unrotated) result.unrotated_kv = unrotated(p);
  rotate(inputs, p);
  append_to_cache(inputs, p);

  const auto queries = p.q.size(2), sequence_keys = p.k.size(2);
  const auto key_visible = add_memory_key_values(inputs, p, key_mask(inputs, sequence_keys));
  const auto keys = p.k.size(2);
  check_pairs(inputs, queries, sequence_keys, keys);
  if (options_.laser) {
    p.v = ((p.v / options_.laser_softclamp_value).tanh() * options_.laser_softclamp_value).exp();
  }

  Attend::Call call;
  call.mask = pair_mask(inputs, queries, sequence_keys, keys);
  if (key_visible.defined()) call.mask = mask_and(call.mask, key_visible.unsqueeze(1).unsqueeze(1));
  const bool only_filled = inputs.cache && !inputs.context.defined() && queries == 1 &&
                           keys == sequence_keys && !key_visible.defined() &&
                           !options_.max_attend_past;
  if (only_filled) call.filled = inputs.cache->filled_keys();
  call.attn_bias = position_bias(inputs, p.x, sequence_keys, keys);
  call.prev_attn = inputs.prev_attn;
  call.keep_maps = inputs.keep_maps;
  call.packed = inputs.packed;
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
