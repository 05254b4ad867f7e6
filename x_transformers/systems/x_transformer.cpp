#include "x_transformers/systems/x_transformer.h"

#include <ATen/ATen.h>

#include <string>
#include <string_view>
#include <utility>

#include "x_transformers/core/cloned.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/evaluation.h"
#include "x_transformers/core/option_names.h"
#include "x_transformers/layers/dropout_seq.h"
#include "x_transformers/ops/mask.h"

namespace x_transformers {

namespace {
/// Of the side `name`.
TransformerWrapperOptions side_options(const char* name, const XTransformerSideOptions& side,
                                       const XTransformerOptions& whole) {
  const auto dim = side.attn_layers.dim;
  require(dim == 0 || dim == whole.dim, at(OptionPath(name) / "attn_layers" / "dim"),
          "is {}, but {} of both sides is {}; set that one alone", dim, option("dim"), whole.dim);
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

/// How the model spells the options of its side `name`, and of that side's stack.
Spelling spelling(const char* name, const XTransformerSideOptions& side) {
  auto names = option_names(side);
  for (const char* own : {"dim", "causal", "cross_attend"}) names.erase(own);
  const char* tokens = std::string_view(name) == "enc" ? "src" : "tgt";
  return spelled_by([name, names, tokens](const OptionPath& path) {
    if (path == OptionPath("x")) return OptionPath(tokens);
    const bool is_of_stack = !path.empty() && path.front() == "attn_layers";
    const auto given = is_of_stack ? path.without_front() : path;
    const bool is_of_side = !given.empty() && names.count(given.front()) > 0;
    return is_of_side ? given.with_front(std::string(name) + "_" + given.front()) : given;
  });
}

/// The same for building the side: what is said of no option is said of the side.
Spelling building(const char* name, const Spelling& spelling) {
  return [name, spelling](const Notice& notice) {
    auto result = spelling(notice);
    if (result.about.options.empty()) result.about = at(name);
    return result;
  };
}
}  // namespace

XTransformerSideOptions XTransformerSideOptions::of(LayersKind kind) {
  XTransformerSideOptions side;
  side.attn_layers.kind = kind;
  side.attn_layers.cross_attend = kind == LayersKind::decoder;
  return side;
}

XTransformerImpl::XTransformerImpl(XTransformerOptions options)
    : options_(std::move(options)),
      encoder_spelling_(spelling("enc", options_.enc)),
      decoder_spelling_(spelling("dec", options_.dec)) {
  auto encoder = side_options("enc", options_.enc, options_);
  encoder.return_only_embed = true;
  encoder_ = register_module("encoder", built(building("enc", encoder_spelling_),
                                              [&] { return TransformerWrapper(encoder); }));
  const auto decoder_options = side_options("dec", options_.dec, options_);
  auto decoder = built(building("dec", decoder_spelling_),
                       [&] { return TransformerWrapper(decoder_options); });
  if (options_.tie_token_emb) {
    require(encoder_->token_emb() && decoder->token_emb(), at("tie_token_emb"),
            "needs a TokenEmbedding on both sides");
    decoder->set_token_emb(encoder_->token_emb());
  }
  AutoregressiveWrapperOptions wrapper;
  wrapper.ignore_index = options_.ignore_index;
  wrapper.pad_value = options_.pad_value;
  decoder_ = register_module("decoder", AutoregressiveWrapper(decoder, wrapper));
}

Spelling XTransformerImpl::part_spelling(const torch::nn::Module& part) const {
  if (&part == encoder_.get()) return encoder_spelling_;
  return &part == decoder_->net().get() ? decoder_spelling_ : Spelling();
}

at::Tensor XTransformerImpl::encode(const at::Tensor& src, const XTransformerInputs& given) {
  TransformerInputs inputs;
  inputs.x = src;
  inputs.mask = given.mask;
  inputs.prepend_embeds = given.src_prepend_embeds;
  inputs.layers.attn_mask = given.attn_mask;
  return spelled(encoder_spelling_, [&] { return encoder_->forward(inputs).embeddings; });
}

AutoregressiveWrapperImpl::Output XTransformerImpl::forward(const at::Tensor& src,
                                                            const at::Tensor& tgt,
                                                            const XTransformerInputs& given) {
  auto context = encode(src, given);
  auto mask = given.mask;
  if (given.src_prepend_embeds.defined())
    mask = pad_mask_left(mask, given.src_prepend_embeds.size(1));
  if (is_training() && options_.cross_attn_tokens_dropout > 0) {
    std::tie(context, mask) = dropout_seq(context, mask, options_.cross_attn_tokens_dropout);
  }
  TransformerInputs inputs;
  inputs.layers.context = context;
  inputs.layers.context_mask = mask;
  return spelled(decoder_spelling_, [&] { return decoder_->forward(tgt, inputs); });
}

at::Tensor XTransformerImpl::generate(const at::Tensor& seq_in, GenerationInputs generation,
                                      const GenerateOptions& options,
                                      const XTransformerInputs& inputs) {
  require(!inputs.src_prepend_embeds.defined(), at("src_prepend_embeds"),
          "generation takes none, as in Python");
  const Evaluation evaluation(*this);
  generation.net.layers.context = encode(seq_in, inputs);
  generation.net.layers.context_mask = inputs.mask;
  return spelled(decoder_spelling_, [&] { return decoder_->generate(generation, options); });
}

std::unique_ptr<DecodingSession> XTransformerImpl::start_session(const at::Tensor& sources,
                                                                 const SessionRequest& request) {
  SessionOptions session;
  session.expected_length = request.expected_tokens;
  session.static_caches = request.static_caches;
  session.inputs.layers.context = encode(sources, {});
  return spelled(decoder_spelling_,
                 [&] { return decoder_->net()->start_session(std::move(session)); });
}

std::shared_ptr<torch::nn::Module> XTransformerImpl::clone(
    const std::optional<torch::Device>& device) const {
  return cloned(*this, device, [&] {
    auto copy = std::make_shared<XTransformerImpl>(options_);
    copy->decoder_->set_loss_chunk(decoder_->loss_chunk());
    return copy;
  });
}

}  // namespace x_transformers
