// Which inputs of a token model have a row for each sequence (layers/input_rows.h of the stack's).
#pragma once

#include "x_transformers/models/transformer_wrapper.h"

namespace x_transformers {

/// visit_rows for what the model takes beside x and `layers`.
template <class Inputs, class Visit>
void visit_own_rows(Inputs& inputs, Visit visit) {
  visit(inputs.seq_start_pos, 1);
  for (auto* t : {&inputs.mask, &inputs.prepend_mask}) visit(*t, 2);
  for (auto* t : {&inputs.prepend_embeds, &inputs.sum_embeds}) visit(*t, 3);
  visit(inputs.pos, inputs.pos.defined() && inputs.pos.is_floating_point() ? 3 : 2);
  for (auto& [name, ids] : inputs.embed_ids) visit(ids, 2);
  for (auto& mem : inputs.mems) visit(mem, 3);
  for (auto& mask : inputs.mem_masks) visit(mask, 2);
}

}  // namespace x_transformers
