// What a call gives and no layer reads: as in Python it is taken and left.
#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "x_transformers/core/unread_input.h"
#include "x_transformers/layers/attention_layers.h"

namespace x_transformers {

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
  ReaderCounts running;
  running[Reader::self_attention] = layers_run(LayerType::attention, order);
  running[Reader::cross_attention] = layers_run(LayerType::cross_attention, order);
  running[Reader::feed_forward] = layers_run(LayerType::feed_forward, order);
  running[Reader::positions] = reads_positions(inputs);
  running[Reader::angles] = running[Reader::self_attention] > 0 || places_context(inputs);
  drop_unread_inputs(inputs, running);
  drop_unread_by_self_attention(inputs, running[Reader::self_attention]);
  drop_unread_by_cross_attention(inputs);
}

/// What the options and other inputs leave unread.
void AttentionLayersImpl::drop_unread_by_self_attention(AttentionLayersInputs& inputs,
                                                        size_t attentions) const {
  // Beside a bias of the stack's own it is refused.
  drop_unless(!options_.attn.data_dependent_alibi || rel_pos_, inputs.attn_bias, "attn_bias",
              "{} stands in its place", at("attn_data_dependent_alibi"));
  // Memories that are cached are not given again, and their masks are.
  const bool has_cached = inputs.cache && inputs.cache->memory_length > 0;
  for (size_t i = 0; i < inputs.mem_masks.size(); ++i) {
    const bool has_mem = i < inputs.mems.size() && inputs.mems[i].defined();
    drop_unless(has_cached || has_mem, inputs.mem_masks[i], "mem_masks", "it is of no {}",
                at("mems"));
  }

  auto& additional = inputs.self_attn_additional_kv;
  if (inputs.route_additional_kv_to_top && additional.size() > attentions)
    std::rotate(additional.begin(), additional.end() - static_cast<std::ptrdiff_t>(attentions),
                additional.end());
  if (additional.size() > attentions)
    additional.resize(attentions);  // as many layers, as in Python
  const bool has_additional = std::any_of(additional.begin(), additional.end(),
                                          [](const auto& pair) { return pair.first.defined(); });
  drop_unless(has_additional, inputs.additional_kv_mask, "additional_kv_mask", "there is no {}",
              at("self_attn_additional_kv"));
  if (attentions == 0) return;
  warn_of_packing(options_.attn, inputs.flash_pack_seq_kwargs.has_value(), "attn_");
  if (!options_.attn.flash_pack_seq) inputs.flash_pack_seq_kwargs.reset();
}

void AttentionLayersImpl::drop_unread_by_cross_attention(AttentionLayersInputs& inputs) const {
  drop_unless(rotary_pos_emb_ != nullptr, inputs.context_pos, "context_pos", "it is for {}",
              at("rotary_pos_emb"));
  if (!inputs.context.defined()) return;
  if (inputs.goes_on())
    inputs.cross_attn_kv_residuals.clear();  // the context's keys and values are cached
  // What cross attention has from attention was given under attention's name.
  const auto& cross_attn = *options_.cross_attn;
  const bool is_own = cross_attn.flash_pack_seq != options_.attn.flash_pack_seq;
  auto& packed = inputs.flash_pack_seq_context_kwargs;
  warn_of_packing(cross_attn, packed.has_value(), is_own ? "cross_attn_" : "attn_",
                  "flash_pack_seq_context_kwargs");
  if (!cross_attn.flash_pack_seq) packed.reset();
}

}  // namespace x_transformers
