// What a call gives and no layer reads: as in Python it is taken and left.
#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "x_transformers/core/unread_input.h"
#include "x_transformers/core/warning.h"
#include "x_transformers/layers/attention_layers.h"

namespace x_transformers {
namespace {

/// Drops what is given for more layers than there are.
template <class T>
void keep_first(size_t count, std::vector<T>& items, const char* name, const char* layers) {
  if (items.size() <= count) return;
  warn_unused(fmt::format("{}: of {} those after the first {} change nothing, there are no more {}",
                          name, items.size(), count, layers));
  items.resize(count);
}

constexpr const char* kNoSelfAttention = "there is no self-attention";
constexpr const char* kNoCrossAttention = "there is no cross attention";

}  // namespace

size_t AttentionLayersImpl::layers_run(
    LayerType type, const std::optional<std::vector<int64_t>>& layers_execute_order) const {
  size_t count = 0;
  for (const auto index : plan_.order_of(layers_execute_order))
    count += plan_.layers[static_cast<size_t>(index)].type == type;
  return count;
}

bool AttentionLayersImpl::places_context(const AttentionLayersInputs& inputs) const {
  return rotary_pos_emb_ && inputs.context_pos.defined() &&
         layers_run(LayerType::cross_attention, inputs.layers_execute_order) > 0;
}

bool AttentionLayersImpl::reads_positions(const AttentionLayersInputs& inputs) const {
  const bool has_positions = rotary_pos_emb_ || polar_pos_emb_ || rel_pos_;
  return places_context(inputs) ||
         (has_positions && layers_run(LayerType::attention, inputs.layers_execute_order) > 0);
}

void AttentionLayersImpl::drop_unread(AttentionLayersInputs& inputs) const {
  const auto& order = inputs.layers_execute_order;
  const auto attentions = layers_run(LayerType::attention, order);
  const auto crosses = layers_run(LayerType::cross_attention, order);
  drop_unread_by_self_attention(inputs, attentions);
  drop_unread_by_cross_attention(inputs, crosses);
  // A model and its wrappers hand these on to any stack.
  drop_unless(attentions + crosses > 0, inputs.mask, "mask", nullptr);
  const bool has_feed_forward = layers_run(LayerType::feed_forward, order) > 0;
  drop_unless(has_feed_forward, inputs.deep_embeds, "deep_embeds_and_ids",
              "there is no feed-forward");
  drop_unless(attentions + crosses > 0 || has_feed_forward, inputs.in_attn_cond, "in_attn_cond",
              "there are no layers");
  drop_unless(reads_positions(inputs), inputs.pos, "pos", "no layer has positions to take it");
  const bool reads_angles = attentions > 0 || places_context(inputs);
  drop_unless(reads_angles, inputs.rotary_pos_emb.freqs, "rotary_pos_emb", kNoSelfAttention);
  drop_unless(reads_angles, inputs.rotary_pos_emb.scale, "rotary_pos_emb", nullptr);
}

void AttentionLayersImpl::drop_unread_by_self_attention(AttentionLayersInputs& inputs,
                                                        size_t attentions) const {
  const bool attends = attentions > 0;
  drop_unless(attends, inputs.seq_start_pos, "seq_start_pos", nullptr);
  drop_unless(attends, inputs.self_attn_kv_mask, "self_attn_kv_mask", nullptr);
  drop_unless(attends, inputs.attn_mask, "attn_mask", kNoSelfAttention);
  drop_unless(attends, inputs.attn_bias, "attn_bias", kNoSelfAttention);
  // Beside a bias of the stack's own it is refused.
  drop_unless(!options_.attn.data_dependent_alibi || rel_pos_, inputs.attn_bias, "attn_bias",
              text("{} stands in its place", option("attn_data_dependent_alibi")));
  drop_unless(attends, inputs.prefix_attn_len, "prefix_attn_len", kNoSelfAttention);
  drop_unless(attends, inputs.polar_angles, "polar_pos_emb", kNoSelfAttention);
  drop_unless(attends, inputs.polar_key_bias, "polar_pos_emb", nullptr);

  keep_first(attentions, inputs.mems, "mems", "self-attentions");
  // Memories that are cached are not given again, and their masks are.
  const bool has_cached = inputs.cache && inputs.cache->memory_length > 0;
  for (size_t i = 0; i < inputs.mem_masks.size(); ++i) {
    const bool has_mem = i < inputs.mems.size() && inputs.mems[i].defined();
    drop_unless(has_cached || has_mem, inputs.mem_masks[i], "mem_masks", "it is of no mems");
  }
  keep_first(attentions, inputs.self_attn_kv_residuals, "self_attn_kv_residuals",
             "self-attentions");

  auto& additional = inputs.self_attn_additional_kv;
  if (inputs.route_additional_kv_to_top && additional.size() > attentions)
    std::rotate(additional.begin(), additional.end() - static_cast<std::ptrdiff_t>(attentions),
                additional.end());
  if (additional.size() > attentions)
    additional.resize(attentions);  // as many layers, as in Python
  const bool has_additional = std::any_of(additional.begin(), additional.end(),
                                          [](const auto& pair) { return pair.first.defined(); });
  drop_unless(has_additional, inputs.additional_kv_mask, "additional_kv_mask",
              "there is no self_attn_additional_kv");

  if (attends) {
    warn_of_packing(options_.attn, inputs.flash_pack_seq_kwargs.has_value(), "attn_");
    if (!options_.attn.flash_pack_seq) inputs.flash_pack_seq_kwargs.reset();
  } else if (inputs.flash_pack_seq_kwargs) {
    warn_unused(fmt::format("flash_pack_seq_kwargs: change nothing, {}", kNoSelfAttention));
    inputs.flash_pack_seq_kwargs.reset();
  }
}

void AttentionLayersImpl::drop_unread_by_cross_attention(AttentionLayersInputs& inputs,
                                                         size_t crosses) const {
  const bool is_read = crosses > 0;
  drop_unless(is_read, inputs.context, "context", nullptr);  // it must be given all the same
  drop_unless(is_read, inputs.context_mask, "context_mask", kNoCrossAttention);
  drop_unless(is_read, inputs.context_pos, "context_pos", kNoCrossAttention);
  drop_unless(rotary_pos_emb_ != nullptr, inputs.context_pos, "context_pos",
              "it is for rotary_pos_emb");
  keep_first(crosses, inputs.cross_attn_kv_residuals, "cross_attn_kv_residuals",
             "cross attentions");
  auto& packed = inputs.flash_pack_seq_context_kwargs;
  if (!is_read) {
    if (packed)
      warn_unused(
          fmt::format("flash_pack_seq_context_kwargs: change nothing, {}", kNoCrossAttention));
    packed.reset();
    return;
  }
  // What cross attention has from attention was given under attention's name.
  const auto& cross_attn = *options_.cross_attn;
  const bool is_own = cross_attn.flash_pack_seq != options_.attn.flash_pack_seq;
  warn_of_packing(cross_attn, packed.has_value(), is_own ? "cross_attn_" : "attn_",
                  "flash_pack_seq_context_kwargs");
  if (!cross_attn.flash_pack_seq) packed.reset();
}

}  // namespace x_transformers
