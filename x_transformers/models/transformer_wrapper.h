// Token models: TransformerWrapper.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/embedding.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "x_transformers/core/capture_check.h"
#include "x_transformers/layers/attention_layers.h"
#include "x_transformers/layers/attention_pool.h"
#include "x_transformers/models/token_model.h"
#include "x_transformers/models/transformer_wrapper_options.h"
#include "x_transformers/nn/callable_module.h"
#include "x_transformers/nn/embeddings.h"
#include "x_transformers/nn/linear.h"
#include "x_transformers/nn/norms.h"

namespace x_transformers {

/// The caches of a token model. `prefix` of their tokens are not tokens of the sequence: memory
/// tokens, cls tokens and prepended embeddings, which enter with the first call.
struct TransformerCache {
  LayersCache layers;
  int64_t prefix = 0;
  at::Tensor mask;  ///< [b, tokens of the first call] bool: which of them exist

  /// Tokens of the sequence so far.
  int64_t length() const { return layers.length - prefix; }
  /// Row r continues what was row rows[r]; rows is int64 [new batch].
  void reorder(const at::Tensor& rows);
};

/// The inputs of one call of a token model. `layers` goes on to the stack, but for its x, mask,
/// mems, mem_masks, pos, seq_start_pos and cache, which the model sets.
struct TransformerInputs {
  at::Tensor x;  ///< [b, n] int64; undefined with prepend_embeds alone; with a cache the new tokens
  at::Tensor mask;  ///< [b, n] bool: tokens that exist
  std::vector<at::Tensor> mems, mem_masks;
  std::optional<int64_t> recycle_steps = std::nullopt;
  at::Tensor
      pos;  ///< [n] or [b, n] int64 positions; or [.., n, emb_dim] float, embeddings of positions
  at::Tensor prepend_embeds;  ///< [b, m, emb_dim]
  at::Tensor prepend_mask;    ///< [b, m] bool
  std::map<std::string, at::Tensor> embed_ids;
  at::Tensor sum_embeds;     ///< [b, n, emb_dim], added to the embeddings
  at::Tensor seq_start_pos;  ///< [b] int64: tokens before are padding at the left
  TransformerCache* cache = nullptr;
  std::map<std::string, at::Tensor> token_emb_kwargs,
      to_logits_kwargs;  ///< for modules given in the options
  AttentionLayersInputs layers;

  double attn_z_loss_weight = 1e-4;  ///< of the z-loss, where a wrapper adds it

  bool logits = true;            ///< apply the head
  bool next_embed_pred = false;  ///< apply the continuous head
  bool attn_pool = false;        ///< pool also where the stack is causal
  bool keep_hiddens = false;     ///< TransformerOutput::layers has hiddens
  bool keep_maps = false;        ///< TransformerOutput::layers has attention maps

  /// Whether the cache has tokens before these.
  bool goes_on() const { return cache && cache->layers.length > 0; }

  /// All but x, by which the others are measured (core/inputs.h).
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& v);
};

template <class Self, class Visitor>
void TransformerInputs::fields(Self& self, Visitor& v) {
  using enum TensorKind;
  using enum Axis;
  using enum Fit;
  using BesideCache::first;
  constexpr InputField kEmbeds = {.kind = floating,
                                  .axes = {batch, tokens, emb_dim},
                                  .fit = broadcast,
                                  .beside_cache = BesideCache::cut};
  v("mask", self.mask,
    {.kind = boolean, .axes = {batch, tokens}, .fit = by_rule, .beside_cache = BesideCache::grown});
  v("mems", self.mems, {.axes = {batch, memory, dim}, .fit = by_rule, .beside_cache = first});
  v("mem_masks", self.mem_masks, {.axes = {batch, memory}, .fit = by_rule});
  v.value("recycle_steps", self.recycle_steps);
  if (self.pos.defined() && self.pos.is_floating_point()) {
    v("pos", self.pos, kEmbeds);
  } else {
    v("pos", self.pos,
      {.axes = {optional(batch), tokens}, .fit = by_rule, .beside_cache = BesideCache::whole});
  }
  v("prepend_embeds", self.prepend_embeds,
    {.kind = floating, .axes = {batch, any_size(prepended), emb_dim}, .beside_cache = first});
  v("prepend_mask", self.prepend_mask,
    {.kind = boolean, .axes = {batch, prepended}, .beside_cache = first});
  v("embed_ids", self.embed_ids,
    {.kind = integer, .axes = {batch, tokens}, .fit = broadcast, .beside_cache = BesideCache::cut});
  v("sum_embeds", self.sum_embeds, kEmbeds);
  v("seq_start_pos", self.seq_start_pos, {.kind = integer, .axes = {batch}});
  v("token_emb_kwargs", self.token_emb_kwargs, {.fit = by_rule});
  v("to_logits_kwargs", self.to_logits_kwargs, {.fit = by_rule});
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

class TransformerWrapperImpl : public TokenModel, public CaptureCheck {
 public:
  explicit TransformerWrapperImpl(TransformerWrapperOptions options);
  TransformerOutput forward(const TransformerInputs& inputs) override;
  /// Tokens [b, n] to logits [b, n, logits_dim] of the first head.
  at::Tensor forward(const at::Tensor& tokens);
  /// Embeddings [b, n, dim] to logits [b, n, logits_dim] of the first head. `arguments` are for a
  /// to_logits from the options.
  at::Tensor head(const at::Tensor& embeddings,
                  const std::map<std::string, at::Tensor>& arguments = {});
  /// Whether a token's logits hang on its own embedding alone.
  bool head_is_per_token() const { return !given_to_logits_ || given_to_logits_.is_per_token; }

  const TransformerWrapperOptions& options() const { return options_; }
  AttentionLayers& attn_layers() { return attn_layers_; }
  const AttentionLayers& attn_layers() const { return attn_layers_; }
  /// The token embedding; empty where the options give another module.
  TokenEmbedding& token_emb() { return token_emb_; }
  TokenModelTraits traits() const override;
  std::optional<TokenLimit> embedded_tokens() const override;
  std::optional<TokenLimit> predicted_tokens() const override;
  std::optional<TokenLimit> embedded_positions() const override;
  std::map<std::string, int64_t> further_ids() const override { return options_.embed_num_tokens; }
  void require_next_token_logits() const override;
  void require_language_model() const override;
  bool hides_last_token() const override;
  std::unique_ptr<DecodingSession> start_session(SessionOptions options) override;
  /// Shares another model's token embedding, under both names.
  void set_token_emb(const TokenEmbedding& token_emb);
  /// Whether positions beyond max_seq_len mean something.
  bool has_abs_pos_emb() const { return pos_emb_ != nullptr; }
  /// Why the model cannot be decoded with a cache; empty: it can.
  std::string cache_unsupported() const;
  /// Why prompts of different lengths, padded at the left (seq_start_pos), are not seen each as it
  /// would be alone; empty: they are.
  std::string padding_unsupported() const;
  TransformerCache make_cache(int64_t capacity = 0) const;
  std::string capture_unsupported() const override;

 private:
  struct Sequence;
  std::string own_cache_unsupported(std::optional<int64_t> recycle_steps, bool pools) const;
  void check(const TransformerInputs& inputs) const;
  void check_positions(const TransformerInputs& inputs) const;
  void build_token_embedding(int64_t emb_dim);
  void build_embeddings(int64_t dim);
  void build_heads(int64_t dim);
  void build_logits(int64_t dim);
  at::Tensor embed_tokens(const at::Tensor& tokens, const CallableModule::NamedTensors& arguments);
  at::Tensor embed(const TransformerInputs& inputs, int64_t offset);
  void prepend(const TransformerInputs& inputs, Sequence& s) const;
  void add_cls_tokens(Sequence& s) const;
  void add_memory_tokens(Sequence& s) const;
  LayersOutput run_layers(const TransformerInputs& inputs, const Sequence& s);
  at::Tensor remove_memory_tokens(const Sequence& s, at::Tensor x, TransformerOutput& output) const;
  void pool(const TransformerInputs& inputs, const Sequence& s, at::Tensor x,
            TransformerOutput& output);
  void apply_heads(TransformerOutput& output, const CallableModule::NamedTensors& arguments);
  int64_t memory_token_count() const { return options_.num_memory_tokens.value_or(0); }

  TransformerWrapperOptions options_ = {};
  TokenEmbedding token_emb_{nullptr};
  CallableModule given_token_emb_,
      given_to_logits_;  // from the options; a TokenEmbedding is token_emb_ all the same
  std::shared_ptr<PositionalEmbedding> pos_emb_;
  std::map<std::string, torch::nn::Embedding> embeds_;
  std::shared_ptr<LayerNorm> post_emb_norm_;
  Linear project_emb_{nullptr}, recycled_proj_{nullptr}, combine_mixture_{nullptr},
      to_mixture_{nullptr};
  Linear next_embed_hidden_{nullptr}, next_embed_out_{nullptr};
  std::vector<Linear> to_logits_;
  AttentionLayers attn_layers_{nullptr};
  AttentionPool attn_pool_{nullptr};
  at::Tensor ff_deep_embed_, cls_token_, memory_tokens_;
};
TORCH_MODULE(TransformerWrapper);

/// Sum over layers of the logsumexp of the scores, squared, summed over heads, mean over tokens,
/// times `weight`: keeps scores from growing (z-loss, arXiv:2202.08906). Needs the maps.
at::Tensor attn_z_loss(const LayersOutput& layers, double weight);

/// Memories for the next segment: the hiddens after the memories given, detached, the last `most`
/// tokens of them; empty: all.
std::vector<at::Tensor> next_mems(const TransformerOutput& output, std::optional<int64_t> most);

/// Entropy of softmax(logits) over the last dimension.
at::Tensor logit_entropies(const at::Tensor& logits);

}  // namespace x_transformers
