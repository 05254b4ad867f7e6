// What a call of a stack takes and gives.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "x_transformers/core/inputs.h"
#include "x_transformers/layers/layers_cache.h"
#include "x_transformers/nn/packed_sequences.h"
#include "x_transformers/nn/positions/rotary.h"
#include "x_transformers/ops/attend.h"

namespace x_transformers {

/// What one call of a stack takes; undefined tensors, empty vectors and null pointers are absent.
struct AttentionLayersInputs {
  at::Tensor x;                       ///< [b, n, dim]; with a cache only the new tokens
  at::Tensor context;                 ///< [b, m, dim_context], needed with cross_attend
  at::Tensor mask;                    ///< [b, n] bool: tokens that exist
  at::Tensor context_mask;            ///< [b, m] bool
  at::Tensor attn_mask;               ///< [n, n], [h, n, n] or [b, h, n, n] bool
  at::Tensor prefix_attn_len;         ///< [b] int64, for PrefixDecoder: tokens that all may see
  at::Tensor self_attn_kv_mask;       ///< [b, n] bool: keys of self-attention that may be seen
  std::vector<at::Tensor> mems;       ///< for each self-attention [b, m, dim]
  std::vector<at::Tensor> mem_masks;  ///< for each self-attention [b, m] bool
  at::Tensor seq_start_pos;  ///< [b] int64: tokens before this place are padding at the left
  at::Tensor pos;  ///< [n] or [b, n]: positions from outside, of what is cached too if longer; for
                   ///< ALiBi alone also [b, heads, n]
  at::Tensor context_pos;       ///< [m] or [b, m]: positions of the context, for rotary cross
                                ///< attention; of more the last m count
  at::Tensor attn_bias;         ///< broadcastable to [b, h, n, j]
  RotaryAngles rotary_pos_emb;  ///< in place of the stack's own table
  PolarAngles polar_pos_emb;    ///< in place of the stack's own angles
  at::Tensor condition;         ///< [b, dim_condition] or [b, n, dim_condition]
  at::Tensor
      in_attn_cond;        ///< [b, dim] or [b, n, dim], added before every layer (arXiv:2105.04090)
  at::Tensor deep_embeds;  ///< [b, n, depth, dim]: factors of the feed-forwards' outputs
  std::vector<std::pair<at::Tensor, at::Tensor>>
      self_attn_additional_kv;    ///< [b, h, m, d] each, for self-attentions
  at::Tensor additional_kv_mask;  ///< [b, m] bool
  bool detach_additional_kv = false;
  bool route_additional_kv_to_top = true;  ///< fewer pairs than layers go to the last layers
  std::optional<std::vector<int64_t>> layers_execute_order;
  std::vector<at::Tensor> self_attn_kv_residuals,
      cross_attn_kv_residuals;  ///< [b, n, dim] for each attention
  std::optional<PackedSequences> flash_pack_seq_kwargs,
      flash_pack_seq_context_kwargs;  ///< of self and cross attention
  /// [b, n] integers on the CPU: tokens beside each other that have one number are a document,
  /// which is to its tokens all that there is, from position 0 on.
  at::Tensor documents;
  LayersCache* cache = nullptr;  ///< appended to; positions go on where it ends
  bool keep_hiddens = false;     ///< fill the lists of LayersOutput
  bool keep_maps = false;        ///< fill the maps of LayersOutput::attention
  bool keep_caches = false;      ///< fill what it has of caches

  /// All but x, by which the others are measured (core/inputs.h).
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& v) {
    fields_of_masks(self, v);
    fields_of_positions(self, v);
    fields_of_layers(self, v);
  }

  /// Whether the cache has tokens before these.
  bool goes_on() const { return cache && cache->length > 0; }
  /// Tokens of Transformer-XL memory that come with this call, as the first layer has them; 0 for
  /// what is no [b, m, dim].
  int64_t memory_given() const {
    return !mems.empty() && mems[0].defined() && mems[0].dim() == 3 ? mems[0].size(1) : 0;
  }
  /// Keys that self-attention has of memories, and those it has of tokens; cached ones count.
  int64_t memory_keys() const { return memory_given() + (cache ? cache->memory_length : 0); }
  int64_t token_keys() const {
    if (cache && cache->position.defined()) return cache->capacity - memory_keys();
    return (cache ? cache->length : 0) + x.size(1);
  }

 private:
  static constexpr Readers kSelf = {Reader::self_attention}, kCross = {Reader::cross_attention},
                           kAttention = {Reader::self_attention, Reader::cross_attention},
                           kLayers = {Reader::self_attention, Reader::cross_attention,
                                      Reader::feed_forward};
  template <class Self, class Visitor>
  static void fields_of_masks(Self& self, Visitor& v);
  template <class Self, class Visitor>
  static void fields_of_positions(Self& self, Visitor& v);
  template <class Self, class Visitor>
  static void fields_of_layers(Self& self, Visitor& v);
};

/// What attention sees, and what it adds to its scores.
template <class Self, class Visitor>
void AttentionLayersInputs::fields_of_masks(Self& self, Visitor& v) {
  using enum TensorKind;
  using enum Axis;
  using enum Fit;
  using BesideCache::whole, BesideCache::grown;
  // The context must be given all the same.
  v("context", self.context,
    {.kind = floating,
     .axes = {batch, any_size(context), dim_context},
     .read_by = kCross,
     .is_silent = true,
     .is_needed = true});
  v("context_mask", self.context_mask,
    {.kind = boolean, .axes = {batch, or_one(context)}, .read_by = kCross, .is_needed = true});
  v("context_pos", self.context_pos,
    {.axes = {optional(batch), context}, .fit = by_rule, .read_by = kCross});
  v("mask", self.mask,
    {.kind = boolean,
     .axes = {batch, tokens},
     .fit = by_rule,
     .beside_cache = grown,
     .read_by = kAttention,
     .is_silent = true,
     .in_documents = true});
  v("self_attn_kv_mask", self.self_attn_kv_mask,
    {.kind = boolean,
     .axes = {batch, keys},
     .fit = by_rule,
     .beside_cache = grown,
     .read_by = kSelf,
     .is_silent = true,
     .in_documents = true});
  v("attn_mask", self.attn_mask,
    {.kind = boolean,
     .axes = {batch, heads, tokens, keys},
     .fit = by_rule,
     .beside_cache = whole,
     .read_by = kSelf});
  v("attn_bias", self.attn_bias,
    {.kind = floating,
     .axes = {batch, heads, tokens, keys},
     .fit = by_rule,
     .beside_cache = whole,
     .read_by = kSelf});
  v("prefix_attn_len", self.prefix_attn_len,
    {.kind = integer,
     .axes = {batch},
     .fit = by_rule,
     .read_by = kSelf,
     .beside_padding = "counts the padding"});
}

/// Memories, and where tokens stand.
template <class Self, class Visitor>
void AttentionLayersInputs::fields_of_positions(Self& self, Visitor& v) {
  using enum TensorKind;
  using enum Axis;
  using enum Fit;
  using BesideCache::whole;
  v("mems", self.mems,
    {.kind = floating,
     .axes = {batch, memory, dim},
     .beside_cache = BesideCache::first,
     .read_by = kSelf,
     .is_per_layer = true});
  v("mem_masks", self.mem_masks, {.kind = boolean, .axes = {batch, memory}, .fit = by_rule});
  v("seq_start_pos", self.seq_start_pos,
    {.kind = integer, .axes = {batch}, .read_by = kSelf, .is_silent = true});
  v("pos", self.pos,
    {.axes = {optional(batch), tokens},
     .fit = by_rule,
     .beside_cache = whole,
     .read_by = {Reader::positions}});
  v("rotary_pos_emb", self.rotary_pos_emb,
    {.axes = {batch, tokens, other},
     .fit = by_rule,
     .beside_cache = whole,
     .read_by = {Reader::angles}});
  v("polar_pos_emb", self.polar_pos_emb,
    {.axes = {batch, heads, tokens, dim_head},
     .fit = by_rule,
     .beside_cache = whole,
     .read_by = kSelf});
}

/// What layers are given one by one, and further.
template <class Self, class Visitor>
void AttentionLayersInputs::fields_of_layers(Self& self, Visitor& v) {
  using enum TensorKind;
  using enum Axis;
  using enum Fit;
  using BesideCache::cut, BesideCache::whole;
  v("condition", self.condition,
    {.kind = floating,
     .axes = {batch, or_one(optional(tokens)), dim_condition},
     .beside_cache = cut,
     .in_documents = true,
     .is_needed = true});
  v("in_attn_cond", self.in_attn_cond,
    {.kind = floating,
     .axes = {batch, or_one(optional(tokens)), dim},
     .beside_cache = cut,
     .read_by = kLayers,
     .in_documents = true});
  v("deep_embeds_and_ids", self.deep_embeds,
    {.kind = floating,
     .axes = {batch, or_one(tokens), depth, dim},
     .beside_cache = cut,
     .read_by = {Reader::feed_forward},
     .is_looked_up = true,
     .in_documents = true});
  v("self_attn_additional_kv", self.self_attn_additional_kv,
    {.axes = {batch, heads, added_keys, dim_head},
     .fit = by_rule,
     .beside_padding = "stand before the padding"});
  v("additional_kv_mask", self.additional_kv_mask, {.kind = boolean, .axes = {batch, added_keys}});
  v.value("detach_additional_kv", self.detach_additional_kv);
  v.value("route_additional_kv_to_top", self.route_additional_kv_to_top);
  v.value("layers_execute_order", self.layers_execute_order, {.beside_cache = whole});
  v("self_attn_kv_residuals", self.self_attn_kv_residuals,
    {.kind = floating,
     .axes = {batch, tokens, dim},
     .fit = broadcast,
     .beside_cache = cut,
     .read_by = kSelf,
     .is_per_layer = true,
     .is_stacked = true});
  v("cross_attn_kv_residuals", self.cross_attn_kv_residuals,
    {.kind = floating,
     .axes = {batch, context, dim_context},
     .fit = broadcast,
     .read_by = kCross,
     .is_per_layer = true,
     .is_stacked = true});
  v("flash_pack_seq_kwargs", self.flash_pack_seq_kwargs,
    {.axes = {batch, other}, .fit = by_rule, .read_by = kSelf});
  v("documents", self.documents,
    {.kind = integer,
     .axes = {batch, tokens},
     .beside_cache = whole,
     .is_silent = true,
     .in_documents = true});
  v("flash_pack_seq_context_kwargs", self.flash_pack_seq_context_kwargs,
    {.axes = {batch, other}, .fit = by_rule, .read_by = kCross});
}

/// What a stack computes. The lists are filled only when asked for.
struct LayersOutput {
  at::Tensor out;                   ///< [b, n, dim]
  std::vector<at::Tensor> hiddens;  ///< inputs of the self-attentions
  std::vector<at::Tensor>
      layer_hiddens;  ///< inputs of all layers, and the output before the final norm
  std::vector<at::Tensor> block_hiddens;  ///< what blocks give, the last one `out`; in releases
                                          ///< that return it (block_hiddens_are_returned)
  struct Attended {
    bool is_cross = false;
    AttentionMaps maps;
    GivenState kept;  ///< what Python caches of it
  };
  std::vector<Attended> attention;  ///< one for each attention that ran
};

}  // namespace x_transformers
