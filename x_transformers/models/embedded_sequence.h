// What models share whose stack runs on embeddings of their own: the sequence on its way to the
// stack and back, with memory tokens and given embeddings in front of its tokens.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "x_transformers/core/compat.h"
#include "x_transformers/core/inputs.h"
#include "x_transformers/layers/attention_layers.h"
#include "x_transformers/models/token_inputs.h"
#include "x_transformers/nn/embeddings.h"

namespace x_transformers {

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
    {.kind = boolean, .axes = {batch, tokens}, .fit = by_rule, .beside_cache = BesideCache::held});
  v("mems", self.mems, {.axes = {batch, memory, dim}, .fit = by_rule, .beside_cache = first});
  v("mem_masks", self.mem_masks, {.axes = {batch, memory}, .fit = by_rule});
  v("prepend_embeds", self.prepend_embeds,
    {.kind = floating, .axes = {batch, any_size(prepended), emb_dim}, .beside_cache = first});
}

/// What the stack of such a model computes.
struct SequenceOutput {
  at::Tensor embeddings;     ///< [b, n, dim], of prepended embeddings too
  at::Tensor memory_tokens;  ///< [b, memory tokens, dim] as the stack leaves them
  LayersOutput layers;
};

/// A sequence of embeddings, and what stands around it.
class EmbeddedSequence {
 public:
  /// x [b, n, features] are the embedded tokens that `inputs` is about; `inputs` must outlive this.
  EmbeddedSequence(at::Tensor x, const SequenceInputs& inputs);

  at::Tensor x;  ///< [b, length, features], for what is done with the whole

  /// Puts the prepended embeddings in front, of which `prepend_mask` [b, m] says which exist
  /// (undefined: all). A mask that has entries for them already stays as it is.
  void prepend(const at::Tensor& prepend_mask = {});
  /// Puts memory tokens [count, features] in front of the sequence, or with `every` in front of
  /// each group of so many; undefined: there are none. A call that goes on from a cache has them
  /// there.
  void add_memory_tokens(const at::Tensor& memory_tokens,
                         const std::optional<int64_t>& every = std::nullopt);
  /// Runs the stack on x and takes the memory tokens out again. `layers` has the inputs of the
  /// stack other than those of SequenceInputs.
  SequenceOutput run(AttentionLayersImpl& stack, AttentionLayersInputs layers);

 private:
  void join_cache(AttentionLayersInputs& layers);
  at::Tensor take_out_memory_tokens(at::Tensor out, SequenceOutput& output) const;

  const SequenceInputs& inputs_;
  at::Tensor mask_;
  at::Tensor kv_mask_;         // a self_attn_kv_mask that was given for the tokens alone
  int64_t tokens_;             // of the caller
  int64_t prefix_ = 0;         // memory tokens and prepended embeddings
  int64_t memory_tokens_ = 0;  // of each group
  int64_t before_memory_ = 0;  // length before memory tokens
  std::optional<int64_t> every_ = std::nullopt;
};

/// The sizes that the inputs of a call must have, for tokens [b, n, ...] embedded as `features`.
AxisSizes sequence_sizes(const SequenceInputs& inputs, const at::Tensor& tokens, int64_t features);
/// Throws InputError unless the mask is one of these tokens; in a call that goes on from a cache
/// also of the cached ones.
void require_mask(const SequenceInputs& inputs, const AxisSizes& sizes);
/// Throws InputError unless `pos` has positions of these tokens; with a cache also of the cached
/// ones.
void require_positions(const SequenceInputs& inputs, const AxisSizes& sizes);

/// Positions as vectors [n, features] or [b, n, features] to be added to `count` tokens; a cache
/// says where they begin.
at::Tensor embed_positions(PositionalEmbedding& pos_emb, const SequenceInputs& inputs,
                           const at::Tensor& seq_start_pos, const at::Tensor& tokens);

/// Memories for the next call: the hiddens, after `before` where that is given, detached, the last
/// `most` tokens of them; empty: all.
std::vector<at::Tensor> kept_hiddens(const LayersOutput& layers,
                                     const std::vector<at::Tensor>& before,
                                     const std::optional<int64_t>& most);
/// How many tokens of memory `max_mem_len` keeps; empty: all.
std::optional<int64_t> kept_memory(int64_t max_mem_len, const Compat& compat);

}  // namespace x_transformers
