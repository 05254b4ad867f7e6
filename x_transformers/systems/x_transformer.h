// Encoder and decoder joined: XTransformer.
#pragma once

#include <torch/nn/module.h>

#include <memory>
#include <optional>

#include "x_transformers/core/inputs.h"
#include "x_transformers/core/parts.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/generation/translation_writer.h"
#include "x_transformers/models/transformer_wrapper.h"
#include "x_transformers/systems/x_transformer_options.h"
#include "x_transformers/wrappers/autoregressive.h"

namespace x_transformers {

/// What a call of XTransformer takes beside the tokens of both sides; all is the encoder's.
struct XTransformerInputs {
  at::Tensor mask = {};                ///< [b, m] bool: tokens of the source that exist
  at::Tensor attn_mask = {};           ///< [m, m], [h, m, m] or [b, h, m, m] bool
  at::Tensor src_prepend_embeds = {};  ///< [b, k, dim], in front of the source; for the loss alone

  /// All of them (core/inputs.h).
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& v) {
    using enum Axis;
    using enum Fit;
    v("mask", self.mask, {.kind = TensorKind::boolean, .axes = {batch, tokens}, .fit = by_rule});
    v("attn_mask", self.attn_mask,
      {.kind = TensorKind::boolean, .axes = {batch, heads, tokens, keys}, .fit = by_rule});
    v("src_prepend_embeds", self.src_prepend_embeds,
      {.kind = TensorKind::floating, .axes = {batch, any_size(prepended), dim}, .fit = by_rule});
  }
};

/// Sequence to sequence (arXiv:1706.03762): an encoder reads src, a decoder writes tgt with cross
/// attention to it.
class XTransformerImpl : public torch::nn::Module, public TranslationWriter, public PartOwner {
 public:
  /// Throws InputError for impossible options.
  explicit XTransformerImpl(XTransformerOptions options);

  /// The decoder's loss for tgt [b, n] given src [b, m].
  AutoregressiveWrapperImpl::Output forward(const at::Tensor& src, const at::Tensor& tgt,
                                            const XTransformerInputs& inputs = {});
  /// What follows generation.prompts, given seq_in [b, m].
  at::Tensor generate(const at::Tensor& seq_in, GenerationInputs generation,
                      const GenerateOptions& options, const XTransformerInputs& inputs = {});

  // As a writer.
  std::optional<TokenLimit> readable_tokens() const override { return encoder_->embedded_tokens(); }
  std::optional<TokenLimit> written_tokens() const override { return decoder_->written_tokens(); }
  int64_t longest_source() const override { return encoder_->traits().max_seq_len; }
  int64_t longest_target() const override { return decoder_->max_seq_len(); }
  int64_t pad_value() const override { return options_.pad_value; }
  std::unique_ptr<DecodingSession> start_session(const at::Tensor& sources,
                                                 const SessionRequest& request) override;

  TransformerWrapper& encoder() { return encoder_; }
  AutoregressiveWrapper& decoder() { return decoder_; }
  Spelling part_spelling(const torch::nn::Module& part) const override;
  std::shared_ptr<torch::nn::Module> clone(
      const std::optional<torch::Device>& device = std::nullopt) const override;

 private:
  at::Tensor encode(const at::Tensor& src, const XTransformerInputs& inputs);

  XTransformerOptions options_;
  Spelling encoder_spelling_, decoder_spelling_;
  TransformerWrapper encoder_{nullptr};
  AutoregressiveWrapper decoder_{nullptr};
};
TORCH_MODULE(XTransformer);

}  // namespace x_transformers
