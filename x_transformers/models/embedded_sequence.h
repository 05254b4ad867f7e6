// What models share whose stack runs on embeddings of their own: the sequence on its way to the
// stack and back, with memory tokens and given embeddings in front of its tokens.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "x_transformers/core/inputs.h"
#include "x_transformers/core/token_limit.h"
#include "x_transformers/layers/attention_layers.h"
#include "x_transformers/models/sequence_inputs.h"
#include "x_transformers/nn/embeddings.h"

namespace x_transformers {

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
  /// Puts learned tokens [count, features] in front of the sequence, unless they are there already,
  /// in a cache; undefined: there are none.
  void put_in_front(const at::Tensor& learned_tokens);
  /// Puts memory tokens [count, features] in front of the sequence, or of each group of `every`
  /// tokens; undefined: there are none. A call that goes on from a cache has them there.
  void add_memory_tokens(const at::Tensor& memory_tokens,
                         const std::optional<int64_t>& every = std::nullopt);
  /// Which entries of x exist; undefined: all.
  const at::Tensor& mask() const { return mask_; }
  /// Runs the stack on x and takes the memory tokens out again. `layers` has the inputs of the
  /// stack other than those of SequenceInputs.
  SequenceOutput run(AttentionLayersImpl& stack, AttentionLayersInputs layers);
  /// The same with what runs the stack on the inputs made.
  using RunLayers = std::function<LayersOutput(AttentionLayersInputs layers)>;
  SequenceOutput run(const RunLayers& run_layers, AttentionLayersInputs layers);

 private:
  void join_cache(AttentionLayersInputs& layers);
  at::Tensor take_out_memory_tokens(at::Tensor out, SequenceOutput& output) const;

  const SequenceInputs& inputs_;
  at::Tensor mask_;
  at::Tensor kv_mask_;         // a self_attn_kv_mask that was given for the tokens alone
  int64_t tokens_;             // of the caller
  int64_t prefix_ = 0;         // learned tokens and prepended embeddings
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

/// The positions of the last `count` tokens; a cache says where they begin.
Positions positions_of(const SequenceInputs& inputs, const at::Tensor& seq_start_pos,
                       int64_t count);
/// Positions as vectors [n, features] or [b, n, features] to be added to `count` tokens; a cache
/// says where they begin.
at::Tensor embed_positions(PositionalEmbedding& pos_emb, const SequenceInputs& inputs,
                           const at::Tensor& seq_start_pos, const at::Tensor& tokens);

/// The positions that `pos_emb` has an embedding of, as an option max_seq_len limits them; empty:
/// any.
std::optional<TokenLimit> position_limit(const PositionalEmbedding* pos_emb);

}  // namespace x_transformers
