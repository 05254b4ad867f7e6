// What stands in a layer of a stack, and what it is called with.
#pragma once

#include <torch/nn/module.h>

#include <string>
#include <utility>

#include "x_transformers/core/cache.h"
#include "x_transformers/core/inputs.h"
#include "x_transformers/nn/packed_sequences.h"
#include "x_transformers/nn/positions/position_bias.h"
#include "x_transformers/nn/positions/rotary.h"
#include "x_transformers/ops/attend.h"

namespace x_transformers {

class AttentionImpl;

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

/// What one call of Attention takes; undefined tensors and null pointers are absent.
struct AttentionInputs {
  at::Tensor x;             ///< [b, n, dim]; with qkv_receive_diff_residuals [3, b, n, dim]
  at::Tensor context;       ///< [b, m, dim_context] for cross attention
  at::Tensor mask;          ///< [b, n] bool: queries (and, without context_mask, keys) that exist
  at::Tensor context_mask;  ///< [b, m] bool: keys that exist
  at::Tensor attn_mask;     ///< [n, j], [h, n, j] or [b, h, n, j] bool
  at::Tensor attn_bias;     ///< broadcastable to [b, h, n, j]
  PositionBias* rel_pos = nullptr;  ///< in place of attn_bias
  at::Tensor pos;  ///< [n] or [b, n] int64: positions for rel_pos, which must be ALiBi then
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
  at::Tensor hybrid_hidden;                 ///< where the hybrid module goes on, if not in a cache
  KeyValueCache* cache = nullptr;
  int64_t cached_memory = 0;  ///< keys at the front of the cache that are memory
  bool keep_maps = false;
  bool keep_unrotated = false;  ///< fill AttentionOutput::unrotated_kv

  /// All but x, by which the others are measured (core/inputs.h).
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& v) {
    using enum TensorKind;
    constexpr auto batch = Axis::batch;
    constexpr InputField kPairs = {.axes = {batch, Axis::heads, Axis::tokens, Axis::keys},
                                   .fit = Fit::by_rule};
    v("context", self.context,
      {.kind = floating, .axes = {batch, Axis::context, Axis::dim_context}});
    v("mask", self.mask, {.kind = boolean, .axes = {batch, Axis::tokens}});
    v("context_mask", self.context_mask, {.kind = boolean, .axes = {batch, Axis::keys}});
    v("attn_mask", self.attn_mask, kPairs);
    v("attn_bias", self.attn_bias, kPairs);
    v("pos", self.pos, {.axes = {optional(batch), Axis::tokens}, .fit = Fit::by_rule});
    v("prev_attn", self.prev_attn, kPairs);
    v("mem", self.mem, {.kind = floating, .axes = {batch, any_size(Axis::memory), Axis::dim_kv}});
    v("mem_mask", self.mem_mask, {.kind = boolean, .axes = {batch, Axis::memory}});
    v("value_residual", self.value_residual, kPairs);
    v("kv_input_residual", self.kv_input_residual,
      {.kind = floating, .axes = {batch, Axis::kv_tokens, Axis::dim_kv}, .fit = Fit::broadcast});
    v("additional_key_values", self.additional_key_values, kPairs);
    v("additional_key_value_mask", self.additional_key_value_mask,
      {.kind = boolean, .axes = {batch, Axis::added_keys}});
    v.made("rotary_pos_emb", self.rotary,
           {.axes = {batch, Axis::tokens, Axis::other}, .fit = Fit::by_rule});
    v.made("polar_pos_emb", self.polar, kPairs);
    v.made("flash_pack_seq_kwargs", self.packed,
           {.axes = {batch, Axis::other}, .fit = Fit::by_rule});
    v("cache.hybrid_hidden", self.hybrid_hidden, {.fit = Fit::by_rule});
  }
};

struct AttentionOutput {
  at::Tensor out;  ///< [b, n, dim_out]
  AttentionMaps maps;
  at::Tensor values;         ///< [b, kv_heads, n, d] before residual and norm
  at::Tensor hybrid_hidden;  ///< where the hybrid module has come to, if it has a state
  std::pair<at::Tensor, at::Tensor>
      unrotated_kv;  ///< keys and values of the sequence, as Python caches them
};

/// What a block is called with: attention's inputs (x among them), and what feed-forward and
/// wrappers need.
struct BlockInputs {
  AttentionInputs attention;
  at::Tensor deep_embed;        ///< [b, n, dim] factors of the feed-forward's output
  at::Tensor condition;         ///< [b, 1 or n, dim_condition]
  ShiftCache* shift = nullptr;  ///< earlier tokens, for token shift
};

/// A layer's branch: attention, feed-forward, or something wrapped around one of them.
class Block : public torch::nn::Module {
 public:
  virtual AttentionOutput run(const BlockInputs& inputs) = 0;
  /// Why the block cannot be run token by token; empty: it can.
  virtual std::string cache_refusal() const { return {}; }
  /// The attention inside; null in a feed-forward.
  virtual AttentionImpl* attention() { return nullptr; }
};

}  // namespace x_transformers
