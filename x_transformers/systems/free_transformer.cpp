#include "x_transformers/systems/free_transformer.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "x_transformers/core/cloned.h"
#include "x_transformers/core/evaluation.h"
#include "x_transformers/core/format.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/tensor_check.h"
#include "x_transformers/core/warning.h"
#include "x_transformers/generation/sampling.h"
#include "x_transformers/layers/stack_spelling.h"
#include "x_transformers/models/token_bounds.h"
#include "x_transformers/ops/loss.h"

namespace x_transformers {
namespace {

void check(const FreeTransformerOptions& o) {
  require_size(o.num_tokens, "num_tokens");
  require_size(o.layers.dim, "dim");
  require_size(o.max_seq_len, "max_seq_len");
  require_count(o.dec_head_depth, "dec_head_depth");
  require_modules(o.dec_tail_depth, "dec_tail_depth");
  require_modules(o.enc_depth, "enc_depth");
  require_probability(o.latent_dropout_prob, "latent_dropout_prob");
  if (o.dim_latent) warn_unused(at("dim_latent"), "changes nothing, as in Python");
}

AttentionLayersOptions encoder_options(const FreeTransformerOptions& o) {
  auto options = o.enc_kwargs.value_or(o.layers);
  options.kind = LayersKind::encoder;
  options.cross_attend = options.only_cross = true;
  options.pre_norm_has_final_norm = true;
  return options;
}

AttentionLayersOptions decoder_options(const FreeTransformerOptions& o, bool has_final_norm) {
  auto options = o.dec_kwargs.value_or(o.layers);
  options.kind = LayersKind::decoder;
  options.pre_norm_has_final_norm = has_final_norm;
  return options;
}

/// How the whole spells options of its stacks.
Spelling encoder_spelling(const FreeTransformerOptions& o) {
  return stack_spelling({{"dim", "dim"}, {"depth", "enc_depth"}}, o.enc_kwargs ? "enc_kwargs" : "");
}

Spelling decoder_spelling(const FreeTransformerOptions& o, const char* depth_name) {
  return stack_spelling({{"dim", "dim"}, {"depth", depth_name}}, o.dec_kwargs ? "dec_kwargs" : "");
}

}  // namespace

AttentionLayersOptions FreeTransformerOptions::stack() {
  AttentionLayersOptions options;
  options.kind = LayersKind::decoder;
  return options;
}

/// A stack with the norm and the positions that all have.
AttentionLayers FreeTransformerImpl::build_stack(const char* name, AttentionLayersOptions options,
                                                 int64_t depth, const Spelling& spelling) {
  options.dim = options_.layers.dim;
  options.depth = depth;
  options.use_rmsnorm = options.rotary_pos_emb = true;
  options.compat = options_.compat;
  return register_module(name, built(spelling, [&] { return AttentionLayers(options); }));
}

FreeTransformerImpl::FreeTransformerImpl(FreeTransformerOptions options)
    : options_(std::move(options)) {
  const auto& o = options_;
  check(o);
  const auto dim = o.layers.dim;
  token_emb_ = register_module("token_emb", torch::nn::Embedding(o.num_tokens, dim));
  token_unembed_ = register_module("token_unembed", linear_no_bias(dim, o.num_tokens));
  constexpr double kInitScale = 1e-2;
  query_token_for_latents_ =
      register_parameter("query_token_for_latents", at::randn({dim}) * kInitScale);
  encoder_ = build_stack("encoder", encoder_options(o), o.enc_depth, encoder_spelling(o));
  binary_mapper_ =
      built(spelled_by([](const OptionPath& path) {
              return path == OptionPath("bits") ? OptionPath("latent_bits") : path;
            }),
            [&] {
              return BinaryMapper(BinaryMapperOptions{o.latent_bits, o.kl_loss_threshold});
            });
  register_module("binary_mapper", binary_mapper_);
  to_latent_bit_logits_ =
      register_module("to_latent_bit_logits", linear_no_bias(dim, o.latent_bits));
  from_latent_to_condition_ =
      register_module("from_latent_to_condition", linear_no_bias(binary_mapper_->num_codes(), dim));
  if (o.dec_head_depth > 0)
    decoder_head_ = build_stack("decoder_head", decoder_options(o, /*has_final_norm=*/false),
                                o.dec_head_depth, decoder_spelling(o, "dec_head_depth"));
  decoder_tail_ = build_stack("decoder_tail", decoder_options(o, /*has_final_norm=*/true),
                              o.dec_tail_depth, decoder_spelling(o, "dec_tail_depth"));
}

Spelling FreeTransformerImpl::part_spelling(const torch::nn::Module& part) const {
  if (&part == encoder_.get()) return encoder_spelling(options_);
  if (&part == decoder_head_.get()) return decoder_spelling(options_, "dec_head_depth");
  return &part == decoder_tail_.get() ? decoder_spelling(options_, "dec_tail_depth") : Spelling();
}

/// Padding that is no token gets the embedding of one: nothing sees it, and no target is after it.
at::Tensor FreeTransformerImpl::embed(const at::Tensor& tokens) {
  const bool pads_with_token = options_.pad_id >= 0 && options_.pad_id < options_.num_tokens;
  const auto embedded = pads_with_token ? tokens : tokens.masked_fill(tokens == options_.pad_id, 0);
  require_in_range_on_cpu(embedded, "seq", {options_.num_tokens, "num_tokens"});
  return token_emb_->forward(embedded);
}

at::Tensor FreeTransformerImpl::run_head(const at::Tensor& tokens) {
  AttentionLayersInputs inputs;
  inputs.x = embed(tokens);
  return decoder_head_ ? decoder_head_->forward(inputs).out : inputs.x;
}

BinaryMapperImpl::Output FreeTransformerImpl::encode_to_latents(
    const at::Tensor& decoder_head_embeds, const at::Tensor& mask, bool calc_aux_loss,
    std::optional<bool> per_token) {
  require_tensor(decoder_head_embeds, "decoder_head_embeds", TensorKind::floating,
                 {{"batch"}, {"seq"}, {"dim", options_.layers.dim}});
  const auto batch = decoder_head_embeds.size(0), n = decoder_head_embeds.size(1);
  const bool has_each = per_token.value_or(options_.per_token_latents);
  AttentionLayersInputs inputs;
  inputs.x = query_token_for_latents_.expand({batch, has_each ? n : 1, -1});
  inputs.context = decoder_head_embeds;
  inputs.context_mask = mask;
  if (has_each) {
    inputs.pos =
        at::arange(n, at::TensorOptions().dtype(at::kLong).device(decoder_head_embeds.device()));
    inputs.context_pos = inputs.pos;
  }
  const auto logits = to_latent_bit_logits_->forward(encoder_->forward(inputs).out);
  BinaryMapperCall call;
  call.calc_aux_loss = calc_aux_loss;
  return binary_mapper_->forward(logits, call);
}

/// Of all tokens but the first of seq, given codes of seq_for_latents, or else of seq.
FreeTransformerImpl::Predicted FreeTransformerImpl::predict(const at::Tensor& given,
                                                            const at::Tensor& given_for_latents) {
  const auto seq = as_ids(given, "seq"),
             seq_for_latents = as_ids(given_for_latents, "seq_for_latents");
  require_tensor(seq, "seq", TensorKind::integer, {{"batch"}, {"seq"}});
  require_tensor(seq_for_latents, "seq_for_latents", TensorKind::integer,
                 {{"batch", seq.size(0)}, {"seq"}});
  require(seq.size(1) > 1, at("seq"), "expected at least two tokens in a sequence");
  const auto tokens = seq.narrow(1, 0, seq.size(1) - 1);
  const auto hidden = run_head(tokens);
  const auto latents =
      seq_for_latents.defined()
          ? encode_to_latents(run_head(seq_for_latents), seq_for_latents != options_.pad_id,
                              /*calc_aux_loss=*/true, /*per_token=*/false)
          : encode_to_latents(hidden, tokens != options_.pad_id, /*calc_aux_loss=*/true);
  // Without a gradient to the codes, what they condition is looked up.
  const bool is_looked_up = !is_training();
  AttentionLayersInputs inputs;
  inputs.x = hidden;
  inputs.self_attn_kv_residuals = {
      is_looked_up ? condition_of(latents.codes, seq.size(0))
                   : from_latent_to_condition_->forward(at::dropout(
                         latents.one_hot, options_.latent_dropout_prob, is_training()))};
  return {token_unembed_->forward(decoder_tail_->forward(inputs).out), latents};
}

at::Tensor FreeTransformerImpl::next_token_logits(const at::Tensor& seq) {
  return predict(seq, {}).logits;
}

FreeTransformerImpl::Losses FreeTransformerImpl::forward(const at::Tensor& seq,
                                                         const at::Tensor& seq_for_latents) {
  const auto [logits, latents] = predict(seq, seq_for_latents);
  const auto labels = seq.narrow(1, 1, seq.size(1) - 1).to(at::kLong);
  Losses losses;
  losses.ar_loss = cross_entropy(logits, labels, options_.pad_id);
  losses.kl_loss = latents.aux_kl_loss;
  losses.total = losses.ar_loss + losses.kl_loss * options_.kl_loss_weight;
  return losses;
}

/// What latents (see generate) add to the keys and values of the tail, [rows or 1, tokens or 1,
/// dim].
at::Tensor FreeTransformerImpl::condition_of(const at::Tensor& latents, int64_t rows) {
  const bool are_codes = at::isIntegralType(latents.scalar_type(), false);
  const auto codes = binary_mapper_->num_codes();
  at::Tensor condition;
  if (are_codes) {
    condition = at::embedding(from_latent_to_condition_->weight.t(), latents);
  } else {
    expect(latents.is_floating_point() && latents.dim() > 0 && latents.size(-1) == codes,
           at("latents"), shown(latents.sizes()), "codes, integers, or floats [..., codes = {}]",
           codes);
    condition = from_latent_to_condition_->forward(latents);
  }
  if (condition.dim() == 1) condition = condition.unsqueeze(0);
  if (condition.dim() == 2) condition = condition.unsqueeze(1);
  require(condition.dim() == 3 && (condition.size(0) == rows || condition.size(0) == 1),
          at("latents"),
          "expected one for all, or one for each of {} (or for each of their tokens)",
          how_many(rows, "sequence"));
  return condition;
}

at::Tensor FreeTransformerImpl::draw_condition(int64_t rows, int64_t tokens,
                                               const std::optional<at::Generator>& generator) {
  const auto& weight = from_latent_to_condition_->weight;
  const auto codes = at::randint(binary_mapper_->num_codes(), {rows, tokens}, generator,
                                 weight.options().dtype(at::kLong).requires_grad(false));
  return condition_of(codes, rows);
}

GenerateOptions FreeTransformerImpl::usual_sampling() {
  GenerateOptions options;
  options.filter_logits_fn = "top_p";
  options.filter_kwargs = {{"thres", 0.9}};
  return options;
}

at::Tensor FreeTransformerImpl::generate(const at::Tensor& prompts, const GenerateOptions& given,
                                         const at::Tensor& latents, bool use_kv_cache) {
  require(prompts.defined() && prompts.dim() > 0 && prompts.numel() > 0, at("prompts"),
          "expected tokens [..., seq], at least one in each");
  const Evaluation evaluation(*this);
  const bool quirks = options_.compat.python_quirks;
  auto options = given;
  if (quirks) options.seq_len = std::max<int64_t>(given.seq_len - prompts.size(-1), 0);
  FreeTransformerSession::Options session;
  session.use_cache = use_kv_cache;
  session.expected_tokens = options.seq_len;
  if (latents.defined()) {
    const auto rows = prompts.numel() / prompts.size(-1);
    session.condition = condition_of(latents.to(prompts.device()), rows);
  }
  session.draws = !latents.defined() && !quirks;
  FreeTransformerSession decoding(parts(options.seed), std::move(session));
  const auto out = x_transformers::generate(decoding, prompts, options);
  return quirks ? at::cat({prompts, out}, -1) : out;
}

std::optional<TokenLimit> FreeTransformerImpl::readable_tokens() const {
  return TokenLimit{options_.num_tokens, "num_tokens"};
}

std::unique_ptr<DecodingSession> FreeTransformerImpl::start_session(const SessionRequest& request) {
  FreeTransformerSession::Options session;
  session.expected_tokens = request.expected_tokens;
  session.draws = !options_.compat.python_quirks;
  return std::make_unique<FreeTransformerSession>(parts(request.seed), std::move(session));
}

/// `seed` starts the random numbers of codes; others of their own choose tokens.
FreeTransformerParts FreeTransformerImpl::parts(std::optional<int64_t> seed) {
  FreeTransformerParts parts;
  if (seed) ++*seed;
  const auto generator = seeded_generator(seed, token_unembed_->weight.device());
  parts.embed = [this](const at::Tensor& tokens) { return embed(tokens); };
  parts.head = decoder_head_ ? decoder_head_.ptr() : nullptr;
  parts.tail = decoder_tail_.ptr();
  parts.unembed = [this](const at::Tensor& x) { return token_unembed_->forward(x); };
  parts.draw_condition = [this, generator](int64_t rows, int64_t tokens) {
    return draw_condition(rows, tokens, generator);
  };
  parts.has_code_of_each_token = options_.per_token_latents;
  return parts;
}

std::shared_ptr<torch::nn::Module> FreeTransformerImpl::clone(
    const std::optional<torch::Device>& device) const {
  return cloned(*this, device, [&] { return std::make_shared<FreeTransformerImpl>(options_); });
}

}  // namespace x_transformers
