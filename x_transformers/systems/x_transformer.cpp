#include "x_transformers/systems/x_transformer.h"

#include <ATen/ATen.h>

#include "x_transformers/core/error.h"
#include "x_transformers/core/evaluation.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/warning.h"
#include "x_transformers/layers/dropout_seq.h"
#include "x_transformers/ops/mask.h"

namespace x_transformers {

namespace {
TransformerWrapperOptions side_options(const XTransformerSideOptions& side,
                                       const XTransformerOptions& whole) {
  TransformerWrapperOptions options;
  options.num_tokens = side.num_tokens;
  options.max_seq_len = side.max_seq_len;
  options.emb_dropout = side.emb_dropout;
  options.num_memory_tokens = side.num_memory_tokens;
  options.scaled_sinu_pos_emb = side.scaled_sinu_pos_emb;
  options.use_abs_pos_emb = side.use_abs_pos_emb;
  options.attn_layers = side.attn_layers;
  options.attn_layers.dim = whole.dim;
  options.compat = whole.compat;
  return options;
}

/// Names options as they are given, with the side `name` in front.
auto spelling(const char* name, const XTransformerSideOptions& side) {
  return [name, &side](std::string message) {
    for (const std::string layers : {"attn_layers.", "attn_layers: "}) {
      if (message.starts_with(layers)) message.erase(0, layers.size());
    }
    return with_prefix(name + std::string("_"), side, {"dim", "causal", "cross_attend"}, message);
  };
}

/// What `make` makes of the side `name`; its messages name options as they are given, with the side
/// in front.
template <class Make>
auto make_side(const char* name, const XTransformerSideOptions& side, Make make) {
  try {
    return make_spelled(spelling(name, side), make);
  } catch (const InputError&) {
    throw;
  } catch (...) {
    rethrow_within(name);
  }
}
}  // namespace

XTransformerSideOptions XTransformerSideOptions::of(LayersKind kind) {
  XTransformerSideOptions side;
  side.attn_layers.kind = kind;
  side.attn_layers.cross_attend = kind == LayersKind::decoder;
  return side;
}

XTransformerImpl::XTransformerImpl(XTransformerOptions options) : options_(std::move(options)) {
  auto encoder = side_options(options_.enc, options_);
  encoder.return_only_embed = true;
  encoder_ = register_module(
      "encoder", make_side("enc", options_.enc, [&] { return TransformerWrapper(encoder); }));
  const auto decoder_options = side_options(options_.dec, options_);
  auto decoder =
      make_side("dec", options_.dec, [&] { return TransformerWrapper(decoder_options); });
  if (options_.tie_token_emb) decoder->set_token_emb(encoder_->token_emb());
  AutoregressiveWrapperOptions wrapper;
  wrapper.ignore_index = options_.ignore_index;
  wrapper.pad_value = options_.pad_value;
  decoder_ = register_module("decoder", AutoregressiveWrapper(decoder, wrapper));
}

at::Tensor XTransformerImpl::encode(const at::Tensor& src, const at::Tensor& mask,
                                    const at::Tensor& attn_mask, const at::Tensor& prepend_embeds) {
  TransformerInputs inputs;
  inputs.x = src;
  inputs.mask = mask;
  inputs.prepend_embeds = prepend_embeds;
  inputs.layers.attn_mask = attn_mask;
  const WarningSpelling spelled(spelling("enc", options_.enc));
  return encoder_->forward(inputs).embeddings;
}

AutoregressiveWrapperImpl::Output XTransformerImpl::forward(const at::Tensor& src,
                                                            const at::Tensor& tgt,
                                                            const at::Tensor& mask_given,
                                                            const at::Tensor& attn_mask,
                                                            const at::Tensor& src_prepend_embeds) {
  auto context = encode(src, mask_given, attn_mask, src_prepend_embeds);
  auto mask = mask_given;
  if (src_prepend_embeds.defined()) mask = pad_mask_left(mask, src_prepend_embeds.size(1));
  if (is_training() && options_.cross_attn_tokens_dropout > 0) {
    std::tie(context, mask) = dropout_seq(context, mask, options_.cross_attn_tokens_dropout);
  }
  TransformerInputs inputs;
  inputs.layers.context = context;
  inputs.layers.context_mask = mask;
  const WarningSpelling spelled(spelling("dec", options_.dec));
  return decoder_->forward(tgt, inputs);
}

at::Tensor XTransformerImpl::generate(const at::Tensor& seq_in, GenerationInputs inputs,
                                      const GenerateOptions& options, const at::Tensor& mask,
                                      const at::Tensor& attn_mask) {
  const Evaluation evaluation(*this);
  inputs.net.layers.context = encode(seq_in, mask, attn_mask, {});
  inputs.net.layers.context_mask = mask;
  const WarningSpelling spelled(spelling("dec", options_.dec));
  return decoder_->generate(inputs, options);
}

}  // namespace x_transformers
