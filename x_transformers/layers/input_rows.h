// Which inputs of a stack have a row for each sequence. The one list: what repeats, counts or
// reorders rows goes over it.
#pragma once

#include <cstdint>

#include "x_transformers/layers/attention_layers.h"

namespace x_transformers {

/// The layers that read an input.
enum class ReadBy { all, attention, self_attention, cross_attention, feed_forward };

/// Calls visit(tensor, rank, read_by) for each input of a stack but x that has a row for each
/// sequence, or one for all; with fewer dimensions than `rank` it has none.
template <class Inputs, class Visit>
void visit_rows(Inputs& inputs, Visit visit) {
  visit(inputs.mask, 2, ReadBy::attention);
  for (auto* t : {&inputs.condition, &inputs.in_attn_cond}) visit(*t, 2, ReadBy::all);
  visit(inputs.deep_embeds, 4, ReadBy::feed_forward);

  const auto by_self = [&](auto& t, int64_t rank) { visit(t, rank, ReadBy::self_attention); };
  for (auto* t : {&inputs.seq_start_pos, &inputs.prefix_attn_len}) by_self(*t, 1);
  for (auto* t : {&inputs.self_attn_kv_mask, &inputs.additional_kv_mask, &inputs.pos})
    by_self(*t, 2);
  for (auto* t : {&inputs.rotary_pos_emb.freqs, &inputs.rotary_pos_emb.scale}) by_self(*t, 3);
  for (auto* t : {&inputs.attn_mask, &inputs.attn_bias, &inputs.polar_angles}) by_self(*t, 4);
  for (auto& mem : inputs.mems) by_self(mem, 3);
  for (auto& mask : inputs.mem_masks) by_self(mask, 2);
  for (auto& residual : inputs.self_attn_kv_residuals) by_self(residual, 3);
  for (auto& [k, v] : inputs.self_attn_additional_kv) {
    by_self(k, 4);
    by_self(v, 4);
  }

  const auto by_cross = [&](auto& t, int64_t rank) { visit(t, rank, ReadBy::cross_attention); };
  by_cross(inputs.context, 3);
  for (auto* t : {&inputs.context_mask, &inputs.context_pos}) by_cross(*t, 2);
  for (auto& residual : inputs.cross_attn_kv_residuals) by_cross(residual, 3);
}

}  // namespace x_transformers
