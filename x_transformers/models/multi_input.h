// Several tokens at each place of a sequence: MultiInputTransformerWrapper.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/embedding.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "x_transformers/core/token_limit.h"
#include "x_transformers/models/embedded_sequence.h"
#include "x_transformers/models/multi_input_options.h"
#include "x_transformers/nn/embeddings.h"
#include "x_transformers/nn/linear.h"
#include "x_transformers/nn/norms.h"

namespace x_transformers {

/// The inputs of one call. `pos` may also be embeddings of positions [.., n, emb_dim]. `layers`
/// goes on to the stack, but for its x, mask, mems, mem_masks, pos, seq_start_pos and cache.
struct MultiInputs : SequenceInputs {
  std::map<std::string, at::Tensor> x;  ///< [b, n] int64 for each name of num_tokens; a
                                        ///< single row is broadcast
  at::Tensor prepend_mask;              ///< [b, m] bool: which prepended embeddings exist
  at::Tensor sum_embeds;                ///< [b, n, emb_dim], added to the embeddings
  at::Tensor seq_start_pos;             ///< [b] int64: tokens before are padding at the left
  bool logits = true;                   ///< apply the heads

  /// All but x, by which the others are measured (core/inputs.h).
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& v);
};

template <class Self, class Visitor>
void MultiInputs::fields(Self& self, Visitor& v) {
  using enum TensorKind;
  using enum Axis;
  constexpr InputField kEmbeds = {.kind = floating,
                                  .axes = {batch, tokens, emb_dim},
                                  .fit = Fit::broadcast,
                                  .beside_cache = BesideCache::cut};
  sequence_fields(self, v);
  if (self.pos.defined() && self.pos.is_floating_point()) {
    v("pos", self.pos, kEmbeds);
  } else {
    v("pos", self.pos,
      {.kind = integer,
       .axes = {optional(batch), tokens},
       .fit = Fit::by_rule,
       .beside_cache = BesideCache::cut});
  }
  v("prepend_mask", self.prepend_mask,
    {.kind = boolean, .axes = {batch, prepended}, .beside_cache = BesideCache::first});
  v("sum_embeds", self.sum_embeds, kEmbeds);
  v("seq_start_pos", self.seq_start_pos, {.kind = integer, .axes = {batch}});
  // The model sets these, or keeps them to itself.
  v.nested(self.layers, {"mask", "mems", "mem_masks", "pos", "seq_start_pos"});
}

/// Of prepended embeddings too.
struct MultiOutput : SequenceOutput {
  std::map<std::string, at::Tensor> logits;  ///< [b, n, tokens of the vocabulary] by name
  std::vector<at::Tensor> mems;              ///< memories given, in the order the layers used them
};

/// A transformer whose sequence has a token of each of several vocabularies at each place: their
/// embeddings are added, and each vocabulary has a head of its own.
class MultiInputTransformerWrapperImpl : public torch::nn::Module, public SightOwner {
 public:
  /// Throws InputError for impossible options.
  explicit MultiInputTransformerWrapperImpl(MultiInputTransformerWrapperOptions options);
  /// Throws InputError for inputs that do not fit the options.
  MultiOutput forward(const MultiInputs& inputs);

  const MultiInputTransformerWrapperOptions& options() const { return options_; }
  AttentionLayers& attn_layers() { return attn_layers_; }
  /// The positions that have an embedding; empty: any.
  std::optional<TokenLimit> embedded_positions() const;
  int64_t memory_tokens() const override { return options_.num_memory_tokens.value_or(0); }
  std::optional<int64_t> kept_mems() const override {
    return kept_memory(options_.max_mem_len, options_.compat);
  }
  std::shared_ptr<torch::nn::Module> clone(
      const std::optional<torch::Device>& device = std::nullopt) const override;

 private:
  void build_embeddings(int64_t emb_dim);
  int64_t emb_dim() const { return options_.emb_dim.value_or(options_.attn_layers.dim); }
  /// The longest and widest of x, to which the others are broadcast.
  const at::Tensor& widest(const MultiInputs& inputs) const;
  void check(const MultiInputs& inputs) const;
  at::Tensor embed(const MultiInputs& inputs);

  MultiInputTransformerWrapperOptions options_;
  std::map<std::string, torch::nn::Embedding> embeds_;
  std::shared_ptr<PositionalEmbedding> pos_emb_;
  std::shared_ptr<LayerNorm> post_emb_norm_;
  Linear project_emb_{nullptr};
  at::Tensor memory_tokens_;
  AttentionLayers attn_layers_{nullptr};
  std::map<std::string, Linear> to_logits_;
};
TORCH_MODULE(MultiInputTransformerWrapper);

}  // namespace x_transformers
