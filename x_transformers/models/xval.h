// Tokens of which one stands for numbers: XValTransformerWrapper.
#pragma once

#include <torch/nn/module.h>
#include <array>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "x_transformers/core/capture_check.h"
#include "x_transformers/core/token_limit.h"
#include "x_transformers/models/embedded_sequence.h"
#include "x_transformers/models/xval_options.h"
#include "x_transformers/nn/embeddings.h"
#include "x_transformers/nn/linear.h"

namespace x_transformers {

/// The inputs of one call. `layers` goes on to the stack, but for its x, mask, mems, mem_masks, pos
/// and cache.
struct XValInputs : SequenceInputs {
  at::Tensor x;       ///< [b, n] int64; with a cache the new tokens
  at::Tensor x_num;   ///< [b, n]: the number at each numerical token; others are not read. NaN: a
                      ///< number that is not known, embedded as 1 (with python_quirks NaN spreads)
  bool heads = true;  ///< apply the heads

  /// The inputs of a call for these tokens {x, x_num} alone.
  void set_tokens(const std::vector<at::Tensor>& tokens) {
    x = tokens.at(0);
    x_num = tokens.at(1);
  }

  /// All but x, by which the others are measured (core/inputs.h).
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& v);
};

template <class Self, class Visitor>
void XValInputs::fields(Self& self, Visitor& v) {
  using enum Axis;
  sequence_fields(self, v);
  v("x_num", self.x_num,
    {.axes = {batch, tokens}, .fit = Fit::by_rule, .beside_cache = BesideCache::cut});
  v("pos", self.pos,
    {.kind = TensorKind::integer,
     .axes = {optional(batch), tokens},
     .fit = Fit::by_rule,
     .beside_cache = BesideCache::cut});
  // The model sets these, or keeps them to itself.
  v.nested(self.layers, {"mask", "mems", "mem_masks", "pos"});
}

/// Of prepended embeddings too.
struct XValOutput : SequenceOutput {
  at::Tensor logits;   ///< [b, n, logits_dim]
  at::Tensor numbers;  ///< [b, n]: the number at each place, if there is one

  /// What decoding reads.
  std::array<at::Tensor*, 2> decoded() { return {&logits, &numbers}; }
};

/// A transformer over tokens and numbers: the embedding of the numerical token is scaled by its
/// number, and a second head predicts one (xVal, arXiv:2310.02989).
class XValTransformerWrapperImpl : public torch::nn::Module, public CaptureCheck {
 public:
  using Inputs = XValInputs;
  using Output = XValOutput;

  /// Throws InputError for impossible options.
  explicit XValTransformerWrapperImpl(XValTransformerWrapperOptions options);
  /// Throws InputError for inputs that do not fit the options.
  XValOutput forward(const XValInputs& inputs);

  const XValTransformerWrapperOptions& options() const { return options_; }
  AttentionLayers& attn_layers() { return attn_layers_; }
  const AttentionLayers& attn_layers() const { return attn_layers_; }
  int64_t max_seq_len() const { return options_.max_seq_len; }
  /// Tokens that have logits.
  TokenLimit predicted_tokens() const;
  /// The positions that have an embedding; empty: any.
  std::optional<TokenLimit> embedded_positions() const;
  /// Tokens of memory that are kept; empty: all.
  std::optional<int64_t> kept_mems() const {
    return kept_memory(options_.max_mem_len, options_.compat);
  }
  /// Why the model cannot be decoded with a cache; empty: it can.
  std::string cache_unsupported() const { return attn_layers_->cache_unsupported(); }
  TransformerCache make_cache(int64_t capacity = 0) const;
  std::string capture_unsupported() const override { return attn_layers_->capture_unsupported(); }
  std::shared_ptr<torch::nn::Module> clone(
      const std::optional<torch::Device>& device = std::nullopt) const override;

 private:
  void check(const XValInputs& inputs) const;
  at::Tensor embed(const XValInputs& inputs);

  XValTransformerWrapperOptions options_;
  TokenEmbedding token_emb_{nullptr};
  std::shared_ptr<PositionalEmbedding> pos_emb_;
  at::Tensor memory_tokens_;
  AttentionLayers attn_layers_{nullptr};
  Linear to_logits_{nullptr}, to_numerical_output_{nullptr};
};
TORCH_MODULE(XValTransformerWrapper);

}  // namespace x_transformers
