// The keys of an attention: which of them exist, which a query may see, and those in front of the
// sequence.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>

#include "x_transformers/core/error.h"
#include "x_transformers/nn/attention.h"
#include "x_transformers/ops/heads.h"
#include "x_transformers/ops/mask.h"
#include "x_transformers/ops/norm.h"
#include "x_transformers/ops/rows.h"

namespace x_transformers {

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
  expect(given == sequence_keys || given == tokens || is_of_new,
         at(inputs.context_mask.defined() ? "context_mask" : "mask"), given,
         "one entry for each of {} keys", tokens);
  return pad_mask_left(mask, sequence_keys - given);
}

/// Learned and given keys and values in front of the sequence; returns the key mask widened for
/// them.
at::Tensor AttentionImpl::add_memory_key_values(const AttentionInputs& inputs, Projected& p,
                                                at::Tensor mask) const {
  if (options_.num_mem_kv > 0) {
    auto mem_k = mem_k_.unsqueeze(0);
    if (options_.qk_norm) {
      const bool is_one_group = options_.compat.meaning().memory_keys_are_one_group;
      mem_k = l2norm(mem_k, is_one_group ? 1 : options_.qk_norm_groups);
      if (qk_norm_k_scale_.defined()) mem_k = mem_k * qk_norm_k_scale_;
    }
    mem_k = without_position(inputs, mem_k);
    // Memories have no place of their own: polar positions leave them at angle zero.
    if (inputs.polar) mem_k = apply_polar_pos_emb(mem_k, at::zeros(mem_k.sizes(), mem_k.options()));
    const auto mem_v = mem_v_.unsqueeze(0);
    p.k = put_in_front(repeat_heads(mem_k, p.k.size(1)), p.k);
    p.v = put_in_front(repeat_heads(mem_v, p.v.size(1)), p.v);
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

/// max_attend_past where queries stand at the last of the keys, all of which have a place, so that
/// no mask is needed.
std::optional<int64_t> AttentionImpl::plain_window(const AttentionInputs& inputs,
                                                   int64_t sequence_keys, int64_t keys) const {
  const bool is_fixed = inputs.cache && inputs.cache->position().defined();
  return is_fixed || keys != sequence_keys ? std::nullopt : options_.max_attend_past;
}

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
  if (options_.max_attend_past && !plain_window(inputs, sequence_keys, keys)) {
    const auto window = window_of(inputs, queries, sequence_keys, *options_.max_attend_past);
    mask = mask_and(mask, pad_mask_left(window, keys - sequence_keys).unsqueeze(0).unsqueeze(0));
  }
  return mask;
}

}  // namespace x_transformers
