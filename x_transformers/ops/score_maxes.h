// The largest attention scores, without the weights that they would become.
#pragma once

#include <ATen/core/Tensor.h>

#include "x_transformers/ops/score_program.h"

namespace x_transformers {

/// The largest score that the normaliser of `program` gets in each head, [h]: the maximum of
/// AttentionMaps::pre_softmax_attn over all but the heads. q [b, h, i, d] and k [b, kv_heads, j, d]
/// as for attend(). Holds the scores of one batch entry at a time, and records no gradient. Reads
/// nothing from the device.
at::Tensor score_maxes(const at::Tensor& q, const at::Tensor& k, const ScoreProgram& program);

}  // namespace x_transformers
