// What calls of models have in common whose stack runs on a sequence of embeddings.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "x_transformers/core/compat.h"
#include "x_transformers/core/inputs.h"
#include "x_transformers/layers/attention_layers_inputs.h"

namespace x_transformers {

/// The caches of a model. `prefix` of their tokens are not tokens of the sequence: memory
/// tokens, cls tokens and prepended embeddings, which enter with the first call.
struct TransformerCache {
  LayersCache layers;
  int64_t prefix = 0;
  at::Tensor mask;  ///< [b, tokens of the first call] bool: which of them exist

  /// Tokens of the sequence so far.
  int64_t length() const { return layers.length - prefix; }
  /// Batch entry r goes on from what was batch entry entries[r]; entries is int64 [new batch].
  void reorder(const at::Tensor& entries);
};

/// What a call of such a model takes beside its tokens, for the inputs struct of each to extend.
/// `layers` goes on to the stack, but for what the model sets.
struct SequenceInputs {
  at::Tensor mask;                          ///< [b, n] bool: tokens that exist
  std::vector<at::Tensor> mems, mem_masks;  ///< as AttentionLayersInputs has them
  at::Tensor pos;                           ///< [n] or [b, n] int64, for embedded positions
  at::Tensor prepend_embeds;                ///< [b, m, features of the embeddings]
  TransformerCache* cache = nullptr;        ///< appended to; the tokens are the new ones
  AttentionLayersInputs layers;

  bool keep_hiddens = false;  ///< SequenceOutput::layers has hiddens
  bool keep_maps = false;     ///< SequenceOutput::layers has attention maps
  bool keep_caches = false;   ///< and what Python caches

  /// Whether the cache has tokens before these.
  bool goes_on() const { return cache && cache->layers.length > 0; }

 protected:
  /// The inputs above but `layers`, for the field list of a model.
  template <class Self, class Visitor>
  static void sequence_fields(Self& self, Visitor& v);
};

template <class Self, class Visitor>
void SequenceInputs::sequence_fields(Self& self, Visitor& v) {
  using enum TensorKind;
  using enum Axis;
  using enum Fit;
  using BesideCache::first;
  v("mask", self.mask,
    {.kind = boolean,
     .axes = {batch, tokens},
     .fit = by_rule,
     .beside_cache = BesideCache::held,
     .beside_padding = "hides no keys beside padding"});
  v("mems", self.mems,
    {.axes = {batch, memory, dim},
     .fit = by_rule,
     .beside_cache = first,
     .beside_padding = "stand before the padding"});
  v("mem_masks", self.mem_masks, {.kind = boolean, .axes = {batch, memory}, .fit = by_rule});
  v("prepend_embeds", self.prepend_embeds,
    {.kind = floating,
     .axes = {batch, any_size(prepended), emb_dim},
     .beside_cache = first,
     .beside_padding = "stand before the padding"});
}

/// Memories for the next call: the hiddens, after `before` where that is given, detached, the last
/// `most` tokens of them; empty: all.
std::vector<at::Tensor> kept_hiddens(const LayersOutput& layers,
                                     const std::vector<at::Tensor>& before,
                                     const std::optional<int64_t>& most);
/// How many tokens of memory `max_mem_len` keeps; empty: all.
std::optional<int64_t> kept_memory(int64_t max_mem_len, const Compat& compat);
/// Memories for layers `shift_mem_down` lower, as a slice of Python: from the end where negative,
/// and no more than there are.
void shift_mems(std::vector<at::Tensor>& mems, int64_t shift_mem_down);

}  // namespace x_transformers
