// What an attention keeps of earlier tokens, and what calls it cannot be part of.
#include <ATen/ATen.h>

#include <memory>
#include <string>
#include <tuple>
#include <utility>

#include "x_transformers/nn/attention.h"

namespace x_transformers {

int64_t AttentionImpl::cached_features() const {
  const auto& o = options_;
  if (o.use_latent_kv) return *o.dim_latent_kv + o.latent_rope_subheads.value_or(0) * o.dim_head;
  return kv_heads_ * (o.dim_head + value_dim_head_);
}

/// The option that projects values orthogonally to those of their own tokens; null: none does.
const char* AttentionImpl::orthogonal_projection() const {
  if (options_.orthog_projected_values) return "orthog_projected_values";
  return options_.orthog_projected_values_per_head ? "orthog_projected_values_per_head" : nullptr;
}

Text AttentionImpl::documents_unsupported() const {
  if (hybrid_module_ && !hybrid_module_.is_per_token)
    return text("{} goes from token to token through all documents", option("hybrid_module"));
  if (options_.flash_pack_seq)
    return text("{} packs sequences of its own", option("flash_pack_seq"));
  if (const auto* projected = orthogonal_projection())
    return text("{} is taken over whole rows", option(projected));
  return {};
}

OptionPath AttentionImpl::drawn_option() const {
  const auto drawn = attend_->drawn_option();
  if (!drawn.empty()) return drawn;
  if (options_.sublayer_dropout > 0) return "sublayer_dropout";
  return hybrid_module_.draws ? OptionPath("hybrid_module") : OptionPath();
}

Text AttentionImpl::cache_unsupported() const {
  if (hybrid_module_ && !hybrid_module_.is_causal)
    return text("{} may look at later tokens", option("hybrid_module"));
  return whole_sequence_unsupported();
}

/// Which option, other than a hybrid module, needs the whole sequence.
Text AttentionImpl::whole_sequence_unsupported() const {
  if (options_.flash_pack_seq)
    return text("{}: packed sequences are given whole", option("flash_pack_seq"));
  if (options_.selective) return text("{} changes the scores of past queries", option("selective"));
  if (options_.data_dependent_alibi && !options_.causal)
    return text("{} without {} needs the gates of later tokens", option("data_dependent_alibi"),
                option("causal"));
  if (const auto* projected = orthogonal_projection())
    return text("{} is taken over the whole sequence", option(projected));
  if (options_.use_latent_kv && options_.learned_value_residual_mix)
    return text("{} needs the inputs of all tokens, where {} caches latents in place of values",
                option("learned_value_residual_mix"), option("use_latent_kv"));
  return {};
}

Text AttentionImpl::context_cache_unsupported() const {
  const auto reason = cache_unsupported();
  if (!reason.empty() || !options_.max_attend_past) return reason;
  return text(
      "{} in cross attention counts back from the last query, which moves as the sequence "
      "grows",
      option("max_attend_past"));
}

Text AttentionImpl::static_cache_unsupported() const {
  if (!options_.use_cope || !options_.cope_talking_heads) return {};
  return text("{} mixes heads over keys that do not exist yet", option("cope_talking_heads"));
}

Text AttentionImpl::padding_unsupported() const {
  if (!options_.use_cope || !options_.cope_talking_heads) return {};
  return text("{} mixes the scores of padding into the others", option("cope_talking_heads"));
}

Text AttentionImpl::given_cache_unsupported(const GivenState& given) const {
  if (options_.data_dependent_alibi) {
    return text("{} needs the gates of earlier tokens, which keys and values do not tell",
                option("data_dependent_alibi"));
  }
  if (!hybrid_module_) return cache_unsupported();
  if (!given.hidden.defined())
    return text("{} needs its state, hybrid_hidden, beside the keys and values",
                option("hybrid_module"));
  return whole_sequence_unsupported();
}

/// What Python keeps in its cache: keys before rotation and values, of the tokens given and of
/// those in a cache from outside, memories left out.
std::pair<at::Tensor, at::Tensor> AttentionImpl::kept_keys_values(const AttentionInputs& inputs,
                                                                  const Projected& p) const {
  if (to_latent_kv_) return {p.latent, p.sub_heads};
  const auto sequence = [&](const at::Tensor& t, const at::Tensor& given) {
    const auto tokens = t.narrow(2, p.mem_length, t.size(2) - p.mem_length);
    return given.defined() ? at::cat({given, tokens}, 2) : tokens;
  };
  const auto before = inputs.cache ? inputs.cache->as_given : GivenState();
  return {sequence(p.k, before.keys), sequence(p.v, before.values)};
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

/// Whether the tokens of the call are one query on a static cache, and no more is done to it, to
/// its key and to those in front than NewestKey tells (ops/attend_appending.h).
bool AttentionImpl::may_append(const AttentionInputs& inputs, const Projected& p) const {
  const bool is_step = inputs.cache && inputs.cache->filled_keys().defined() && p.q.size(2) == 1;
  if (!is_step) return false;
  const bool has_other_keys = inputs.context.defined() || inputs.mem.defined() ||
                              inputs.additional_key_values.first.defined();
  const auto* rotary = inputs.rotary;
  const bool turns_otherwise =
      inputs.polar || (rotary && (rotary->angles.defined() || rotate_num_heads_ < options_.heads ||
                                  !rotary->keys.cos.is_same(rotary->queries.cos)));
  const bool scales_front =
      options_.num_mem_kv > 0 && rotary && rotary->scale_without_position.defined();
  const bool prepares_otherwise =
      to_latent_kv_ || options_.laser || (options_.qk_norm && options_.qk_norm_groups != 1);
  // A bias from outside may be of keys in front too.
  const auto& bias = inputs.attn_bias;
  const bool is_wider =
      bias.defined() && bias.dim() > 0 && bias.size(-1) > inputs.cache->filled_keys().capacity;
  const bool is_kept = inputs.prev_attn.defined() || inputs.keep_maps || inputs.keep_cache;
  return !has_other_keys && !turns_otherwise && !scales_front && !prepares_otherwise && !is_wider &&
         !is_kept;
}

/// Decoding in one pass: normalises, rotates, appends and attends where that is all there is to do;
/// else no value, with nothing done.
std::optional<AttendResult> AttentionImpl::attend_appending(const AttentionInputs& inputs,
                                                            const Projected& p,
                                                            const Attend::Call& call) {
  const auto [keys, values] = inputs.cache->fixed();
  NewestKey newest{p.k, p.v, options_.qk_norm, {}, {}, nullptr, {}};
  if (inputs.rotary) newest.rotation = &inputs.rotary->queries;
  if (options_.qk_norm) {
    newest.q_scale = qk_norm_q_scale_;
    newest.k_scale = qk_norm_k_scale_;
  }
  if (options_.num_mem_kv > 0) {
    newest.front.k = mem_k_;
    newest.front.v = mem_v_;
  }
  return attend_->forward_appending(p.q, keys, values, newest, call);
}

std::unique_ptr<BlockState> AttentionImpl::make_state(const StateOptions& options) const {
  auto state = std::make_unique<AttentionState>();
  state->is_context = options.has_context;
  state->reserve(options.capacity);
  return state;
}

}  // namespace x_transformers
