// QK-clip of a whole stack.
#pragma once

#include "x_transformers/layers/attention_layers.h"

namespace x_transformers {

/// AttentionImpl::qk_clip_ of every attention of the stack, by the scores that `output` has of it
/// (AttentionLayersInputs::keep_maps); one that ran several times by the largest of them. Throws
/// InputError where `output` has other attentions or no scores.
// NOLINTNEXTLINE(readability-identifier-naming): Python's name
void attn_qk_clip_(const AttentionLayersImpl& layers, const LayersOutput& output,
                   double tau = 100.0);

}  // namespace x_transformers
