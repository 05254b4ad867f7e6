// What calls of token models (models/token_model.h) take and give, and what decoding with one
// takes.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "x_transformers/core/inputs.h"
#include "x_transformers/layers/attention_layers_inputs.h"
#include "x_transformers/layers/attention_layers_options.h"
#include "x_transformers/models/sequence_inputs.h"

namespace x_transformers {

/// The inputs of one call of a token model. `layers` goes on to the stack, but for its x, mask,
/// mems, mem_masks, pos, seq_start_pos and cache, which the model sets. `pos` may also be
/// embeddings of positions, [.., n, emb_dim] float.
struct TransformerInputs : SequenceInputs {
  at::Tensor x;  ///< [b, n] int64; undefined with prepend_embeds alone; with a cache the new tokens
  std::optional<int64_t> recycle_steps = std::nullopt;
  at::Tensor prepend_mask;  ///< [b, m] bool
  std::map<std::string, at::Tensor> embed_ids;
  at::Tensor sum_embeds;     ///< [b, n, emb_dim], added to the embeddings
  at::Tensor seq_start_pos;  ///< [b] int64: tokens before are padding at the left
  /// Further arguments of modules given in the options, by name: [b, n, ...]; an axis of one
  /// entry is broadcast.
  std::map<std::string, at::Tensor> token_emb_kwargs;
  std::map<std::string, at::Tensor> to_logits_kwargs;  ///< n: prepended embeddings and tokens

  double attn_z_loss_weight = kAttnZLossWeight;  ///< of the z-loss, where a wrapper adds it

  bool logits = true;            ///< apply the head
  bool next_embed_pred = false;  ///< apply the continuous head
  bool attn_pool = false;        ///< pool also where the stack is causal

  /// All but x, by which the others are measured (core/inputs.h).
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& v);
};

template <class Self, class Visitor>
void TransformerInputs::fields(Self& self, Visitor& v) {
  using enum TensorKind;
  using enum Axis;
  using enum Fit;
  constexpr InputField kEmbeds = {.kind = floating,
                                  .axes = {batch, tokens, emb_dim},
                                  .fit = broadcast,
                                  .beside_cache = BesideCache::cut};
  sequence_fields(self, v);
  v.value("recycle_steps", self.recycle_steps);
  if (self.pos.defined() && self.pos.is_floating_point()) {
    v("pos", self.pos, kEmbeds);
  } else {
    v("pos", self.pos,
      {.axes = {optional(batch), tokens}, .fit = by_rule, .beside_cache = BesideCache::whole});
  }
  v("prepend_mask", self.prepend_mask,
    {.kind = boolean, .axes = {batch, prepended}, .beside_cache = BesideCache::first});
  v("embed_ids", self.embed_ids,
    {.kind = integer,
     .axes = {batch, tokens},
     .fit = broadcast,
     .beside_cache = BesideCache::cut,
     .is_needed = true});
  v("sum_embeds", self.sum_embeds, kEmbeds);
  v("seq_start_pos", self.seq_start_pos, {.kind = integer, .axes = {batch}});
  // What they mean is up to the modules.
  v("token_emb_kwargs", self.token_emb_kwargs,
    {.axes = {batch, tokens},
     .fit = by_rule,
     .beside_cache = BesideCache::cut,
     .has_more_axes = true});
  v("to_logits_kwargs", self.to_logits_kwargs,
    {.axes = {batch, outputs},
     .fit = by_rule,
     .beside_cache = BesideCache::cut,
     .has_more_axes = true});
  // The model sets these.
  v.nested(self.layers, {"mask", "mems", "mem_masks", "pos", "seq_start_pos"});
}

/// What a token model computes; what was not asked for is undefined.
struct TransformerOutput {
  std::vector<at::Tensor>
      logits;  ///< one for each output head, [b, n, logits_dim]; log-probabilities with a mixture
  at::Tensor
      embeddings;      ///< [b, n, dim] before the head; pooled with average pooling or cls tokens
  at::Tensor mixture;  ///< [b, n, k, dim] what a mixture of softmaxes makes logits of
  at::Tensor init_embed;  ///< [b, n, emb_dim] after embedding norm, before dropout and projection
  at::Tensor next_embed_pred;     ///< [b, n, dim]
  at::Tensor last_layer_hiddens;  ///< [b, n, dim] before pooling
  at::Tensor attn_pooled_tokens;  ///< [b, pooled, dim]
  at::Tensor memory_tokens;       ///< [b, memory tokens, dim] as the stack leaves them
  std::vector<at::Tensor> mems;   ///< memories given, in the order the layers used them
  LayersOutput layers;
};

/// What a session of decoding takes.
struct SessionOptions {
  bool cache_kv = true;                 ///< use caches (where the model can)
  bool restrict_to_max_seq_len = true;  ///< beyond max_seq_len tokens see only the last max_seq_len
  at::Tensor seq_start_pos;             ///< [b] int64: prompts are padded at the left up to here
  int64_t first_token = 0;  ///< entries for tokens that inputs have before the session's first
  TransformerInputs
      inputs;  ///< context, prepended embeddings and the like; x and cache are the session's
  int64_t expected_length =
      0;  ///< tokens that will be decoded, if known: caches are made for them at once
  /// Decode single tokens on static caches, on CUDA as a graph; default: on CUDA, where
  /// graphs work.
  std::optional<bool> static_caches = std::nullopt;
  bool embeddings = false;  ///< give those of the last tokens, [batch, dim], in place of logits
};

/// Sum over layers of the logsumexp of the scores, squared, summed over heads, mean over tokens,
/// times `weight`: keeps scores from growing (z-loss, arXiv:2202.08906). Needs the maps.
at::Tensor attn_z_loss(const LayersOutput& layers, double weight);

/// Memories for the next segment: the hiddens after the memories given, detached, the last `most`
/// tokens of them; empty: all.
std::vector<at::Tensor> next_mems(const TransformerOutput& output, std::optional<int64_t> most);

/// Entropy of softmax(logits) over the last dimension.
at::Tensor logit_entropies(const at::Tensor& logits);

}  // namespace x_transformers
