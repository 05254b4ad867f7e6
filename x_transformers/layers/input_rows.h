// Which inputs of a stack have a row for each sequence. The one list: what repeats, counts or
// reorders rows goes over it.
#pragma once

#include <cstdint>

#include "x_transformers/layers/attention_layers.h"

namespace x_transformers {

/// Calls visit(tensor, rank) for each input of a stack but x that has a row for each sequence, or
/// one for all; with fewer dimensions than `rank` it has none.
template <class Inputs, class Visit>
void visit_rows(Inputs& inputs, Visit visit) {
  for (auto* t : {&inputs.seq_start_pos, &inputs.prefix_attn_len}) visit(*t, 1);
  for (auto* t :
       {&inputs.mask, &inputs.self_attn_kv_mask, &inputs.additional_kv_mask, &inputs.pos,
        &inputs.condition, &inputs.in_attn_cond, &inputs.context_mask, &inputs.context_pos})
    visit(*t, 2);
  for (auto* t : {&inputs.context, &inputs.rotary_pos_emb.freqs, &inputs.rotary_pos_emb.scale})
    visit(*t, 3);
  for (auto* t : {&inputs.attn_mask, &inputs.attn_bias, &inputs.polar_angles, &inputs.deep_embeds})
    visit(*t, 4);
  for (auto& mem : inputs.mems) visit(mem, 3);
  for (auto& mask : inputs.mem_masks) visit(mask, 2);
  for (auto* residuals : {&inputs.self_attn_kv_residuals, &inputs.cross_attn_kv_residuals}) {
    for (auto& residual : *residuals) visit(residual, 3);
  }
  for (auto& [k, v] : inputs.self_attn_additional_kv) {
    visit(k, 4);
    visit(v, 4);
  }
  for (auto* packed : {&inputs.flash_pack_seq_kwargs, &inputs.flash_pack_seq_context_kwargs}) {
    if (!*packed) continue;
    for (auto* t : {&(*packed)->cu_seqlens_q, &(*packed)->cu_seqlens_k, &(*packed)->alibi_slopes})
      visit(*t, 2);
  }
}

}  // namespace x_transformers
