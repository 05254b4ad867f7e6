#include "x_transformers/systems/gpt_vae.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <utility>

#include "x_transformers/core/cloned.h"
#include "x_transformers/core/evaluation.h"
#include "x_transformers/core/finite_check.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/core/tensor_check.h"
#include "x_transformers/core/warning.h"
#include "x_transformers/layers/stack_spelling.h"
#include "x_transformers/models/token_bounds.h"

namespace x_transformers {
namespace {

void check(const GPTVAEOptions& o) {
  require_size(o.layers.dim, "dim");
  require(o.layers.depth.has_value(), at("depth"), "is needed");
  require_size(o.dim_latent, "dim_latent");
  require_size(o.max_seq_len, "max_seq_len");
  require_count(o.enc_depth, "enc_depth");
  require_probability(o.latents_dropout_prob, "latents_dropout_prob");
  if (o.encoder && o.enc_kwargs)
    warn_unused(at("enc_kwargs"), "change nothing, {} is given", option("encoder"));
}

/// How the whole spells options of one of its models: those of the stack as its own.
Spelling model_spelling(const char* depth_name, const char* kwargs) {
  const auto stack = stack_spelling({{"dim", "dim"}, {"depth", depth_name}}, kwargs);
  return [stack](const Notice& notice) {
    return stack(respelled(notice, [](const OptionPath& path) {
      return !path.empty() && path.front() == "attn_layers" ? path.without_front() : path;
    }));
  };
}

Spelling encoder_spelling(const GPTVAEOptions& o) {
  return model_spelling("enc_depth", o.enc_kwargs ? "enc_kwargs" : "");
}

Spelling decoder_spelling(const GPTVAEOptions& o) {
  return model_spelling("depth", o.dec_kwargs ? "dec_kwargs" : "");
}

TransformerWrapperOptions wrapper_options(const GPTVAEOptions& o,
                                          const std::optional<AttentionLayersOptions>& kwargs) {
  TransformerWrapperOptions options;
  options.num_tokens = o.num_tokens;
  options.max_seq_len = o.max_seq_len;
  options.attn_layers = kwargs.value_or(o.layers);
  options.attn_layers.dim = o.layers.dim;
  options.attn_layers.depth = o.layers.depth;
  options.compat = o.compat;
  return options;
}

/// A model of tokens as a module from tokens and mask to embeddings.
CallableModule as_callable(TransformerWrapper net) {
  return {net.ptr(), [net](const at::Tensor& x, const CallableModule::NamedTensors& given) mutable {
            TransformerInputs inputs;
            inputs.x = x;
            inputs.mask = given.at("mask");
            return CallableModule::Result{net->forward(inputs).embeddings, {}};
          }};
}

}  // namespace

AttentionLayersOptions GPTVAEOptions::stack() {
  AttentionLayersOptions options;
  options.kind = LayersKind::decoder;
  return options;
}

GPTVAEImpl::GPTVAEImpl(GPTVAEOptions options) : options_(std::move(options)) {
  const auto& o = options_;
  check(o);
  const auto dim = o.layers.dim, dim_latent = o.dim_latent.value_or(dim);
  build_encoder();
  auto scope = register_module("to_latent_mean_log_variance", make_scope());
  to_latent_mean_log_variance_ = scope->register_module("0", Linear(dim, 2 * dim_latent));
  scope = register_module("from_latent_to_prepend_token", make_scope());
  from_latent_to_prepend_token_ = scope->register_module("0", Linear(dim_latent, dim));
  auto of_decoder = wrapper_options(o, o.dec_kwargs);
  of_decoder.attn_layers.kind = LayersKind::decoder;
  const auto decoder = built(decoder_spelling(o), [&] { return TransformerWrapper(of_decoder); });
  register_module("decoder", decoder);
  AutoregressiveWrapperOptions wrapper;
  wrapper.ignore_index = o.pad_id;
  ar_wrapped_decoder_ =
      register_module("ar_wrapped_decoder", AutoregressiveWrapper(decoder, wrapper));
}

void GPTVAEImpl::build_encoder() {
  const auto& o = options_;
  if (o.encoder) {
    encoder_ = within("encoder", [&] { return make_callable(*o.encoder, o.compat); });
  } else {
    auto options = wrapper_options(o, o.enc_kwargs);
    options.max_seq_len = o.max_seq_len + 1;
    options.return_only_embed = options.average_pool_embed = true;
    options.attn_layers.kind = LayersKind::encoder;
    options.attn_layers.depth = o.enc_depth;
    encoder_ = built(encoder_spelling(o), [&] { return as_callable(TransformerWrapper(options)); });
  }
  register_module("encoder", encoder_.module);
}

Spelling GPTVAEImpl::part_spelling(const torch::nn::Module& part) const {
  if (&part == ar_wrapped_decoder_->net().get()) return decoder_spelling(options_);
  const bool is_own_encoder = !options_.encoder && &part == encoder_.module.get();
  return is_own_encoder ? encoder_spelling(options_) : Spelling();
}

GPTVAEImpl::Latents GPTVAEImpl::encode_to_latents(const at::Tensor& given) {
  const auto seq = as_ids(given, "seq");
  require_tensor(seq, "seq", TensorKind::integer, {{"batch"}, {"seq"}});
  const auto mask = seq != options_.pad_id;
  // Padding that is no token is embedded as one, which the mask hides.
  const bool pads_with_token = options_.pad_id >= 0 && options_.pad_id < options_.num_tokens;
  const auto tokens = pads_with_token ? seq : seq.masked_fill(~mask, 0);
  const auto pooled = encoder_(tokens, {{"mask", mask}});
  expect(pooled.dim() == 2 && pooled.size(1) == options_.layers.dim, at("encoder"),
         shown(pooled.sizes()), "one embedding of each sequence, [batch, dim = {}]",
         options_.layers.dim);
  const auto parts = to_latent_mean_log_variance_->forward(pooled).chunk(2, -1);
  Latents latents;
  latents.mean = parts[0];
  latents.log_var = parts[1];
  latents.drawn = latents.mean + (0.5 * latents.log_var).exp() * at::randn_like(latents.mean);
  return latents;
}

/// latents [b, dim_latent] -> [b, 1, dim]
at::Tensor GPTVAEImpl::prepended(const at::Tensor& latents) {
  const auto features = options_.dim_latent.value_or(options_.layers.dim);
  expect(latents.dim() == 2 && latents.size(1) == features, at("latents"), shown(latents.sizes()),
         "[batch, {} = {}] or [{}]", option("dim_latent"), features, features);
  return from_latent_to_prepend_token_->forward(latents).unsqueeze(1);
}

/// Hides the latents of some sequences from their tokens. Python moves the positions of those
/// tokens too, which generation without a latent does not.
void GPTVAEImpl::drop_latents(TransformerInputs& inputs) const {
  if (!is_training() || options_.latents_dropout_prob == 0) return;
  const auto batch = inputs.prepend_embeds.size(0);
  const auto chance = at::rand({batch}, inputs.prepend_embeds.options().dtype(at::kFloat));
  const auto is_dropped = chance < options_.latents_dropout_prob;
  if (options_.compat.python_quirks)
    inputs.seq_start_pos = is_dropped.to(at::kLong);
  else
    inputs.prepend_mask = is_dropped.logical_not().unsqueeze(1);
}

GPTVAEImpl::Losses GPTVAEImpl::forward(const at::Tensor& seq, const at::Tensor& seq_for_latents) {
  const auto latents = encode_to_latents(seq_for_latents.defined() ? seq_for_latents : seq);
  TransformerInputs inputs;
  inputs.prepend_embeds = prepended(latents.drawn);
  drop_latents(inputs);
  const auto divergence =
      0.5 * (latents.log_var.exp() + latents.mean.square() - latents.log_var - 1);
  Losses losses;
  losses.ar_loss = ar_wrapped_decoder_->forward(seq, inputs).loss;
  losses.vae_kl_loss = at::relu(divergence - options_.vae_kl_div_floor).sum(-1).mean();
  losses.total = losses.ar_loss + losses.vae_kl_loss * options_.vae_kl_loss_weight;
  return losses;
}

at::Tensor GPTVAEImpl::next_token_logits(const at::Tensor& seq) {
  TransformerInputs inputs;
  inputs.prepend_embeds = prepended(encode_to_latents(seq).mean);
  const auto tokens = seq.narrow(1, 0, seq.size(1) - 1);
  inputs.x = tokens.masked_fill(tokens == options_.pad_id, ar_wrapped_decoder_->pad_value());
  const auto logits = ar_wrapped_decoder_->net()->forward(inputs).logits.at(0);
  return logits.narrow(1, 1, tokens.size(1));  // not what stands at the latent
}

at::Tensor GPTVAEImpl::generate(GenerationInputs inputs, const GenerateOptions& options,
                                const at::Tensor& latents) {
  const Evaluation evaluation(*this);
  if (latents.defined()) {
    require_finite(latents, "latents");
    const auto& weight = from_latent_to_prepend_token_->weight;
    auto given = latents.to(weight.device(), weight.scalar_type());
    const auto& prompts = inputs.prompts;
    const auto rows = prompts.dim() > 1 ? prompts.numel() / prompts.size(-1) : 1;
    if (given.dim() == 1) given = given.expand({rows, -1});
    const auto embeds = prepended(given);
    expect(embeds.size(0) == rows || embeds.size(0) == 1, at("latents"), embeds.size(0),
           "one for all, or one for each of {} prompts", rows);
    inputs.net.prepend_embeds = embeds;
  }
  return ar_wrapped_decoder_->generate(inputs, options);
}

std::shared_ptr<torch::nn::Module> GPTVAEImpl::clone(
    const std::optional<torch::Device>& device) const {
  return cloned(*this, device, [&] {
    auto copy = std::make_shared<GPTVAEImpl>(options_);
    copy->ar_wrapped_decoder_->set_loss_chunk(ar_wrapped_decoder_->loss_chunk());
    return copy;
  });
}

}  // namespace x_transformers
