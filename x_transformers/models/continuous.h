// Models over continuous values in place of tokens: ContinuousTransformerWrapper.
#pragma once

#include <torch/nn/module.h>
#include <array>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "x_transformers/core/capture_check.h"
#include "x_transformers/core/token_limit.h"
#include "x_transformers/models/continuous_options.h"
#include "x_transformers/models/embedded_sequence.h"
#include "x_transformers/nn/callable_module.h"
#include "x_transformers/nn/embeddings.h"
#include "x_transformers/nn/linear.h"
#include "x_transformers/nn/norms.h"

namespace x_transformers {

/// The inputs of one call. `layers` goes on to the stack, but for its x, mask, mems, mem_masks,
/// pos, seq_start_pos and cache.
struct ContinuousInputs : SequenceInputs {
  at::Tensor x;             ///< [b, n, dim_in]; with a cache the new ones
  at::Tensor lens;          ///< [b] int64: how many of each row exist, in place of a mask
  at::Tensor prepend_mask;  ///< [b, m] bool: which prepended embeddings exist
  at::Tensor sum_embeds;    ///< [b, n, dim], added to the embeddings
  /// [b] int64: embedded positions count from here. As in Python nothing is hidden by it: a mask
  /// hides padding.
  at::Tensor seq_start_pos;
  bool project = true;  ///< apply the output projection

  /// The inputs of a call for these tokens {x} alone.
  void set_tokens(const std::vector<at::Tensor>& tokens) { x = tokens.at(0); }

  /// All but x, by which the others are measured (core/inputs.h).
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& v);
};

template <class Self, class Visitor>
void ContinuousInputs::fields(Self& self, Visitor& v) {
  using enum TensorKind;
  using enum Axis;
  sequence_fields(self, v);
  // Of a sequence that grows, what it hides goes on.
  v("lens", self.lens, {.kind = integer, .axes = {batch}, .beside_cache = BesideCache::whole});
  v("pos", self.pos,
    {.kind = integer,
     .axes = {optional(batch), tokens},
     .fit = Fit::by_rule,
     .beside_cache = BesideCache::cut});
  v("sum_embeds", self.sum_embeds,
    {.kind = floating,
     .axes = {batch, tokens, emb_dim},
     .fit = Fit::broadcast,
     .beside_cache = BesideCache::cut});
  v("prepend_mask", self.prepend_mask,
    {.kind = boolean, .axes = {batch, prepended}, .beside_cache = BesideCache::first});
  v("seq_start_pos", self.seq_start_pos, {.kind = integer, .axes = {batch}});
  // The model sets these, or keeps them to itself.
  v.nested(self.layers, {"mask", "mems", "mem_masks", "pos", "seq_start_pos"});
}

struct ContinuousOutput : SequenceOutput {
  /// [b, n, dim_out], one for each prepended embedding too; probabilistic [2, b, n, dim_out], means
  /// and variances; pooled [b, dim_out] or [2, b, dim_out]. Undefined unless projected.
  at::Tensor out;

  /// What decoding reads.
  std::array<at::Tensor*, 1> decoded() { return {&out}; }
};

/// A transformer over vectors of features in place of tokens (arXiv:2112.05329 trains one on
/// motions).
class ContinuousTransformerWrapperImpl : public torch::nn::Module, public CaptureCheck {
 public:
  using Inputs = ContinuousInputs;
  using Output = ContinuousOutput;

  /// Throws InputError for impossible options.
  explicit ContinuousTransformerWrapperImpl(ContinuousTransformerWrapperOptions options);
  /// Throws InputError for inputs that do not fit the options.
  ContinuousOutput forward(const ContinuousInputs& inputs);
  /// x [b, n, dim_in] -> ContinuousOutput::out.
  at::Tensor forward(const at::Tensor& x);

  const ContinuousTransformerWrapperOptions& options() const { return options_; }
  AttentionLayers& attn_layers() { return attn_layers_; }
  const AttentionLayers& attn_layers() const { return attn_layers_; }
  /// Features of the input; empty where a module from the options decides.
  std::optional<int64_t> dim_in() const;
  /// Features of the output (of a mean, if probabilistic); empty as above.
  std::optional<int64_t> dim_out() const;
  /// Tokens that the model sees at most; 0: any number.
  int64_t max_seq_len() const { return options_.max_seq_len.value_or(0); }
  /// The positions that have an embedding; empty: any.
  std::optional<TokenLimit> embedded_positions() const;
  /// Tokens of memory that are kept; empty: all.
  std::optional<int64_t> kept_mems() const {
    return kept_memory(options_.max_mem_len, options_.compat);
  }
  /// Why the model cannot be decoded with a cache; empty: it can.
  std::string cache_unsupported() const;
  TransformerCache make_cache(int64_t capacity = 0) const;
  /// Whether what comes out for a token depends on that token alone, after the stack.
  bool head_is_per_token() const { return !given_out_ || given_out_.is_per_token; }
  std::string capture_unsupported() const override { return attn_layers_->capture_unsupported(); }
  std::shared_ptr<torch::nn::Module> clone(
      const std::optional<torch::Device>& device = std::nullopt) const override;

 private:
  void build_projections(int64_t dim);
  void check(const ContinuousInputs& inputs) const;
  at::Tensor embed(const ContinuousInputs& inputs);
  void project_out(const at::Tensor& pooled, ContinuousOutput& output);

  ContinuousTransformerWrapperOptions options_;
  CallableModule given_in_, given_out_;  // project_in and project_out from the options
  Linear project_in_{nullptr}, project_out_{nullptr};
  std::shared_ptr<PositionalEmbedding> pos_emb_;
  std::shared_ptr<LayerNorm> post_emb_norm_;
  at::Tensor memory_tokens_;
  AttentionLayers attn_layers_{nullptr};
};
TORCH_MODULE(ContinuousTransformerWrapper);

}  // namespace x_transformers
