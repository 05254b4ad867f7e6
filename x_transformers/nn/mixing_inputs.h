// What a block is called with that lets tokens see each other.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <utility>

#include "x_transformers/nn/packed_sequences.h"
#include "x_transformers/nn/positions/position_bias.h"
#include "x_transformers/nn/positions/rotary.h"
#include "x_transformers/ops/attend.h"

namespace x_transformers {

/// Tables for the positions of queries, of the keys that are added, and of all keys (needed where
/// latents are cached).
struct RotaryInputs {
  RotaryTable queries, keys, all_keys;
  at::Tensor scale_without_position;  ///< of memory keys (RotaryEmbedding::scale_without_position)
  RotaryAngles angles,
      context_angles;  ///< from outside, in place of the tables; of the context for cross attention

  template <class Self, class Visit>
  static void tensors(Self& self, Visit& visit) {
    RotaryAngles::tensors(self.angles, visit);
    RotaryAngles::tensors(self.context_angles, visit);
  }
};

/// Angles of queries and keys for polar positions.
struct PolarInputs {
  at::Tensor queries, keys;

  template <class Self, class Visit>
  static void tensors(Self& self, Visit& visit) {
    for (auto* t : {&self.queries, &self.keys})
      if (t->defined()) visit(*t);
  }
};

/// What a block takes that lets tokens see each other, beside what every block takes; undefined
/// tensors and null pointers are absent.
struct MixingInputs {
  at::Tensor attn_mask;             ///< [n, j], [h, n, j] or [b, h, n, j] bool
  at::Tensor attn_bias;             ///< broadcastable to [b, h, n, j]
  PositionStage position;           ///< in place of attn_bias, for queries at the last keys
  PositionBias* rel_pos = nullptr;  ///< in place of attn_bias
  at::Tensor pos;  ///< [n], [b, n] or [b, heads, n] int64: positions for rel_pos, which must be
                   ///< ALiBi
  const RotaryInputs* rotary = nullptr;
  const PolarInputs* polar = nullptr;
  at::Tensor prev_attn;       ///< [b, h, n, j] scores of an earlier layer
  at::Tensor mem, mem_mask;   ///< [b, m, dim], [b, m]: Transformer-XL memory in front of the keys
  at::Tensor value_residual;  ///< [b, kv_heads, n, d] values of the first layer
  std::pair<at::Tensor, at::Tensor>
      additional_key_values;                ///< [b, h', m, d] each, in front of everything
  at::Tensor additional_key_value_mask;     ///< [b, m]
  at::Tensor kv_input_residual;             ///< added to what keys and values are made of
  const PackedSequences* packed = nullptr;  ///< needed with flash_pack_seq, and read only there
  int64_t cached_memory = 0;                ///< keys at the front of the cache that are memory
  bool keep_maps = false;
  bool keep_cache = false;  ///< fill BranchOutput::kept
};

}  // namespace x_transformers
