#include "x_transformers/wrappers/nonautoregressive.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "x_transformers/core/cloned.h"
#include "x_transformers/core/evaluation.h"
#include "x_transformers/core/ignored_target.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/tensor_check.h"
#include "x_transformers/generation/filters.h"
#include "x_transformers/generation/sampling.h"
#include "x_transformers/models/token_bounds.h"
#include "x_transformers/nn/linear.h"
#include "x_transformers/ops/loss.h"
#include "x_transformers/wrappers/held_net.h"

namespace x_transformers {
namespace {

/// The highest of logits / temperature + noise; `temperature` is a number or [].
template <class Temperature>
at::Tensor draw(const at::Tensor& logits, const Temperature& temperature,
                const std::optional<at::Generator>& generator = std::nullopt) {
  return (logits / temperature + masked_gumbel_noise(logits, generator)).argmax(-1);
}

void check_token(int64_t mask_id, const TokenModel& net) {
  const auto embedded = net.embedded_tokens();
  expect(mask_id >= 0 && (!embedded || mask_id < embedded->count), at("mask_id"), mask_id,
         "a token that the net embeds, 0 to {}", embedded ? embedded->count - 1 : mask_id);
}

}  // namespace

void validate(const NonAutoregressiveWrapperOptions& o) {
  require_at_least(o.steps, 1, "steps");
  require_at_most(o.steps, kMaxSize, "steps");
  require_probability(o.self_cond_train_prob, "self_cond_train_prob");
  require_probability(o.no_replace_prob, "no_replace_prob");
  require_probability(o.random_token_prob, "random_token_prob");
  expect(std::isfinite(o.critic_loss_weight), at("critic_loss_weight"), o.critic_loss_weight,
         "a finite number");
}

NonAutoregressiveWrapperImpl::NonAutoregressiveWrapperImpl(std::shared_ptr<TokenModel> net,
                                                           NonAutoregressiveWrapperOptions options,
                                                           CallableModule token_critic)
    : options_(std::move(options)),
      schedule_(options_.schedule, options_.compat),
      net_(std::move(net)),
      token_critic_(std::move(token_critic)) {
  validate(options_);
  hold_net(*this, "net", net_);
  require(!(options_.self_token_critic && token_critic_),
          among({"self_token_critic", "token_critic"}), "expected one of them");
  const auto traits = net_->traits();
  expect(traits.max_seq_len > 0, at(OptionPath("net") / "max_seq_len"), traits.max_seq_len,
         "at least 1, the tokens of every sequence");
  check_token(options_.mask_id, *net_);
  if (schedule_.module()) register_module("schedule_fn", schedule_.module());
  if (options_.self_cond) {
    require(traits.dim > 0 && traits.dim == traits.emb_dim, at("self_cond"),
            "adds what the net makes to its embeddings, so it needs {} = {}",
            option(OptionPath("net") / "emb_dim"),
            option(OptionPath("net") / "attn_layers" / "dim"));
    null_embed_ = register_parameter("null_embed", at::randn({traits.dim}));
    to_self_cond_ = register_module("to_self_cond", linear_no_bias(traits.dim, traits.dim));
  }
  if (options_.self_token_critic) self_critic_ = register_module("token_critic", SelfCritic(net_));
  if (token_critic_) register_module("token_critic", token_critic_.module);
}

void NonAutoregressiveWrapperImpl::check(const NonAutoregressiveInputs& inputs) const {
  require_tensor(inputs.x, "x", TensorKind::integer,
                 {{"batch"}, {"max_seq_len", net_->traits().max_seq_len}});
  require(inputs.x.size(0) > 0, at("x"), "expected at least one sequence");
  require(!inputs.net.prepend_embeds.defined() && inputs.net.cache == nullptr, at("x"),
          "sequences that are masked take no {} and no {}", option("prepend_embeds"),
          option("cache"));
  require(!(options_.self_cond && inputs.net.sum_embeds.defined()), at("sum_embeds"),
          "{} stands in their place", option("self_cond"));
  require(!(inputs.only_train_generator && inputs.only_train_critic),
          among({"only_train_generator", "only_train_critic"}), "expected one of them");
  require(!inputs.only_train_critic || has_critic(), at("only_train_critic"), "needs {} or {}",
          option("token_critic"), option("self_token_critic"));
}

/// What is added to the embeddings: of what the net made of the tokens before, or of nothing.
at::Tensor NonAutoregressiveWrapperImpl::self_condition(const MaskedTokens& masked,
                                                        const TransformerInputs& inputs) {
  auto seen = null_embed_;
  const Coin coin(options_.self_cond_train_prob, masked.tokens.device());
  if (coin.may_be_heads()) {
    const at::NoGradGuard no_grad;
    auto own = inputs;
    own.x = masked.tokens;
    own.logits = false;
    const auto embeddings = net_->forward(own).embeddings;
    const at::AutoGradMode records(true);
    seen = at::where(coin.heads(), embeddings, seen.to(embeddings.scalar_type()));
  }
  return to_self_cond_->forward(seen);
}

at::Tensor NonAutoregressiveWrapperImpl::generator_loss(const at::Tensor& logits,
                                                        const at::Tensor& x,
                                                        const MaskedTokens& masked) const {
  const auto of_token = token_loss(net_->traits(), logits, x, kIgnoredTarget, Reduction::none);
  const auto& mask = masked.mask;
  const auto of_masked = of_token.masked_fill(mask.logical_not(), 0);
  if (!options_.use_simple_mdlm_loss_weight) return of_masked.sum() / mask.sum();
  const auto slope = schedule_.slope(masked.times).detach();
  if (options_.compat.python_quirks) {
    const auto weight = slope / (1 - schedule_(masked.times).detach());
    return (of_masked * weight.unsqueeze(-1)).sum() / mask.sum();
  }
  // Equation (10) of the paper, -alpha' / (1 - alpha) for the part alpha that is not masked, with
  // the very part of each row in the place of the expected one: a row has at least one masked
  // token, so that the weight of a late time has no bound otherwise.
  const auto mean_of_row = of_masked.sum(-1) / mask.sum(-1);
  return (slope.abs() * mean_of_row).mean();
}

/// The logit that each token is wrong, [b, n].
at::Tensor NonAutoregressiveWrapperImpl::judge(const at::Tensor& tokens,
                                               const TransformerInputs& inputs) {
  const auto scores =
      self_critic_ ? self_critic_->forward(tokens, needed_inputs(inputs)) : token_critic_(tokens);
  const auto rows = tokens.size(0), n = tokens.size(1);
  require(scores.dim() == 3 && scores.size(0) == rows && scores.size(1) == n && scores.size(2) == 1,
          at("token_critic"),
          "expected a score for each token, [{}, {}, 1], such as of a TransformerWrapper with {} 1",
          rows, n, option(OptionPath("token_critic") / "logits_dim"));
  return scores.squeeze(-1);
}

/// A text has no masks: the mask's own token is not drawn. Python may draw it.
at::Tensor NonAutoregressiveWrapperImpl::without_mask_id(const at::Tensor& logits) const {
  if (options_.compat.python_quirks || options_.mask_id >= logits.size(-1)) return logits;
  auto allowed = logits.clone();
  allowed.select(-1, options_.mask_id).fill_(-std::numeric_limits<float>::infinity());
  return allowed;
}

at::Tensor NonAutoregressiveWrapperImpl::critic_loss(const NonAutoregressiveInputs& inputs,
                                                     const at::Tensor& logits,
                                                     const MaskedTokens& masked) {
  constexpr double kMinTemperature = 1e-10;
  // Drawn in any case, as in Python: so both draw the same numbers from one seed.
  const auto random = at::rand({}, logits.options());
  const auto given = inputs.generator_sample_temperature;
  const auto temperature = given ? at::full_like(random, *given) : random;
  const auto sampled =
      draw(without_mask_id(logits.detach()), temperature.clamp_min(kMinTemperature));
  const auto& x = inputs.x;
  const auto generated = at::where(masked.mask, sampled, x);
  const auto scores = judge(generated, inputs.net);
  // Python calls a token that was not masked wrong where another one was drawn in its place, which
  // the critic never sees.
  const auto wrong = (options_.compat.python_quirks ? sampled : generated) != x;
  return at::binary_cross_entropy_with_logits(scores, wrong.to(scores.scalar_type()));
}

NonAutoregressiveWrapperImpl::Losses NonAutoregressiveWrapperImpl::forward(
    const NonAutoregressiveInputs& given) {
  check(given);
  auto inputs = given;
  inputs.x = as_ids(given.x, "x");
  const MaskingOptions masking = {options_.mask_id, net_->traits().num_tokens,
                                  options_.no_replace_prob, options_.random_token_prob};
  const auto masked = mask_tokens(inputs.x, schedule_, masking);
  auto net_inputs = inputs.net;
  if (options_.self_cond) net_inputs.sum_embeds = self_condition(masked, inputs.net);
  net_inputs.x = masked.tokens;
  const auto logits = [&] {
    const at::AutoGradMode records(at::GradMode::is_enabled() && !inputs.only_train_critic);
    const auto output = net_->forward(net_inputs);
    expect(output.logits.size() == 1, at("net"), output.logits.size(), "one output head");
    return output.logits[0];
  }();
  Losses losses;
  if (!inputs.only_train_critic) {
    losses.generator_loss = generator_loss(logits, inputs.x, masked);
    losses.loss = losses.generator_loss;
  }
  if (!has_critic() || inputs.only_train_generator) return losses;
  losses.critic_loss = critic_loss(inputs, logits, masked);
  losses.loss = inputs.only_train_critic
                    ? losses.critic_loss
                    : losses.loss + losses.critic_loss * options_.critic_loss_weight;
  return losses;
}

NonAutoregressiveWrapperImpl::Losses NonAutoregressiveWrapperImpl::forward(const at::Tensor& x) {
  NonAutoregressiveInputs inputs;
  inputs.x = x;
  return forward(inputs);
}

/// A batch of sequences on their way.
struct NonAutoregressiveWrapperImpl::Drawing {
  TransformerInputs inputs;
  at::Tensor seq;     ///< [b, n] int64
  at::Tensor mask;    ///< [b, n] bool: tokens to be found
  at::Tensor free;    ///< [b, n] bool: tokens of no prompt
  at::Tensor embeds;  ///< what the net made of them last, for self_cond
  at::Tensor scores;  ///< [b, n] how likely each is wrong
  std::optional<at::Generator> generator;
};

/// Finds every masked token, and how likely each is wrong.
void NonAutoregressiveWrapperImpl::fill(Drawing& d, const NonAutoregressiveGeneration& generation,
                                        double annealing) {
  constexpr double kMinTemperature = 1e-3;
  d.inputs.x = d.seq;
  if (options_.self_cond) d.inputs.sum_embeds = to_self_cond_->forward(d.embeds);
  const auto output = net_->forward(d.inputs);
  if (options_.self_cond) d.embeds = output.embeddings;
  auto logits = without_mask_id(output.logits.at(0).to(at::kFloat));
  require_numbers(logits);
  const auto count = logits.size(-1);
  if (const auto known = generation.tokens.value_or(count); known < count)
    logits = at::cat(
        {logits.narrow(-1, 0, known), at::full_like(logits.narrow(-1, known, count - known),
                                                    -std::numeric_limits<float>::infinity())},
        -1);
  if (generation.filter_thres) {
    const auto kept =
        std::ceil((1 - *generation.filter_thres) * static_cast<double>(logits.size(-1)));
    constexpr double kUnused = 1.0;
    logits = top_k(logits, kUnused, static_cast<int64_t>(kept));
  }
  const auto temperature = std::max(generation.start_temperature * annealing, kMinTemperature);
  const auto sampled = draw(logits, temperature, d.generator);
  d.seq = at::where(d.mask, sampled, d.seq);
  if (has_critic()) {
    const auto scores = judge(d.seq, d.inputs);
    const auto noise = masked_gumbel_noise(scores, d.generator);
    d.scores = scores + generation.noise_level_scale * noise * annealing;
  } else {
    d.scores = (1 - logits.softmax(-1)).gather(-1, sampled.unsqueeze(-1)).squeeze(-1);
  }
}

namespace {

void check(const NonAutoregressiveGeneration& generation, int64_t longest) {
  require_at_least(generation.batch_size, 1, "batch_size");
  expect(generation.start_temperature >= 0 && std::isfinite(generation.start_temperature),
         at("start_temperature"), generation.start_temperature, "at least 0");
  if (generation.filter_thres) require_fraction(*generation.filter_thres, "filter_thres");
  expect(std::isfinite(generation.noise_level_scale), at("noise_level_scale"),
         generation.noise_level_scale, "a finite number");
  const auto& prompts = generation.prompts;
  if (!prompts.defined()) return;
  require_tensor(prompts, "prompts", TensorKind::integer,
                 {{"batch_size", generation.batch_size.value_or(1)}, {"seq"}});
  require(prompts.size(1) <= longest, at("prompts"), "{} tokens are more than {} = {}",
          prompts.size(1), option("max_seq_len"), longest);
}

}  // namespace

at::Tensor NonAutoregressiveWrapperImpl::generate(const NonAutoregressiveGeneration& generation,
                                                  const TransformerInputs& inputs) {
  const auto n = net_->traits().max_seq_len;
  x_transformers::check(generation, n);
  require(
      !inputs.prepend_embeds.defined() && inputs.cache == nullptr && !inputs.sum_embeds.defined(),
      at("generate"), "takes no {}, {} or {}", option("prepend_embeds"), option("sum_embeds"),
      option("cache"));
  const Evaluation evaluation(*this);
  const auto batch = generation.batch_size.value_or(1);
  const auto device = net_->parameters().at(0).device();
  const auto ids = at::TensorOptions(device).dtype(at::kLong);
  Drawing d;
  d.inputs = inputs;
  d.generator = seeded_generator(generation.seed, device);
  d.seq = at::full({batch, n}, options_.mask_id, ids);
  d.mask = at::ones({batch, n}, ids.dtype(at::kBool));
  const auto given = generation.prompts.defined() ? generation.prompts.size(1) : 0;
  if (given > 0) {
    d.seq.narrow(1, 0, given).copy_(generation.prompts);
    d.mask.narrow(1, 0, given).fill_(false);
  }
  d.free = d.mask;
  d.embeds = null_embed_;

  const auto times = at::linspace(0, 1, options_.steps + 1).narrow(0, 1, options_.steps);
  const auto left =
      (schedule_(times.to(device)) * (n - given)).to(at::kLong).to(at::kCPU).contiguous();
  for (int64_t step = 0; step < options_.steps; ++step) {
    const auto annealing =
        static_cast<double>(options_.steps - 1 - step) / static_cast<double>(options_.steps);
    fill(d, generation, annealing);
    constexpr auto kNever = -std::numeric_limits<float>::max();
    const auto& candidates = options_.can_mask_prev_unmasked ? d.free : d.mask;
    const auto scores = d.scores.to(at::kFloat).masked_fill(candidates.logical_not(), kNever);
    const auto worst =
        std::get<1>(scores.topk(std::clamp<int64_t>(left[step].item<int64_t>(), 0, n - given), -1));
    d.mask = at::zeros_like(d.mask).scatter(1, worst, true);
    d.seq = d.seq.masked_fill(d.mask, options_.mask_id);
  }
  return generation.batch_size ? d.seq : d.seq.squeeze(0);
}

at::Tensor NonAutoregressiveWrapperImpl::write(const at::Tensor& prompts,
                                               const SequenceRequest& request) {
  NonAutoregressiveGeneration generation;
  generation.batch_size = prompts.size(0);
  generation.prompts = prompts;
  generation.start_temperature = request.temperature;
  generation.seed = request.seed;
  generation.tokens = request.tokens;
  if (request.top_k) {
    const auto written = written_tokens();
    const auto count = written ? written->count : net_->traits().num_tokens;
    const auto kept = std::min(*request.top_k, count);
    // In the middle of the shares that round up to `kept`.
    generation.filter_thres = 1 - (static_cast<double>(kept) - 0.5) / static_cast<double>(count);
  }
  return generate(generation);
}

std::shared_ptr<torch::nn::Module> NonAutoregressiveWrapperImpl::clone(
    const std::optional<torch::Device>& device) const {
  require(!token_critic_, at("token_critic"),
          "given as a module, of which a clone cannot be made: clone the net, and wrap it");
  return cloned(*this, device, [&] {
    return std::make_shared<NonAutoregressiveWrapperImpl>(cloned_as(net_, device), options_);
  });
}

}  // namespace x_transformers
