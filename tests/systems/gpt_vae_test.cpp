// A latent in front of a decoder.
#include "x_transformers/systems/gpt_vae.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "x_transformers/core/error.h"

namespace x_transformers::gpt_vae_test {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

constexpr int64_t kTokens = 11;

GPTVAEOptions options() {
  GPTVAEOptions options;
  options.num_tokens = kTokens;
  options.enc_depth = 1;
  options.max_seq_len = 16;
  options.dim_latent = 5;
  options.layers.dim = 16;
  options.layers.depth = 1;
  options.layers.heads = 2;
  options.layers.attn.dim_head = 8;
  return options;
}

GPTVAE make(const GPTVAEOptions& options) {
  at::manual_seed(4);
  return GPTVAE(options);
}

at::Tensor tokens(int64_t batch, int64_t length) {
  return at::randint(kTokens, {batch, length}, at::kLong);
}

TEST(GPTVAE, EveryParameterLearns) {
  auto model = make(options());
  model->forward(tokens(2, 8)).total.backward();
  for (const auto& parameter : model->named_parameters())
    EXPECT_TRUE(parameter->grad().defined()) << parameter.key();
}

TEST(GPTVAE, ADroppedLatentIsAsNone) {
  const torch::NoGradGuard no_grad;
  auto given = options();
  given.latents_dropout_prob = 1;
  auto model = make(given);
  const auto seq = tokens(2, 8);
  const auto without = model->decoder()->forward(seq).loss.item<double>();
  EXPECT_NEAR(model->forward(seq).ar_loss.item<double>(), without, 1e-5);
  model->eval();
  EXPECT_GT(std::abs(model->forward(seq).ar_loss.item<double>() - without), 1e-4);
  given.compat.python_quirks = true;  // there the tokens move by one position
  EXPECT_GT(std::abs(make(given)->forward(seq).ar_loss.item<double>() - without), 1e-4);
}

TEST(GPTVAE, DivergenceBelowTheFloorIsFree) {
  const torch::NoGradGuard no_grad;
  auto given = options();
  given.vae_kl_div_floor = 1000;
  const auto seq = tokens(2, 8);
  EXPECT_EQ(make(given)->forward(seq).vae_kl_loss.item<double>(), 0);
  EXPECT_GT(make(options())->forward(seq).vae_kl_loss.item<double>(), 0);
}

TEST(GPTVAE, PaddingThatIsNoTokenChangesNothing) {
  const torch::NoGradGuard no_grad;
  auto model = make(options());
  const auto seq = tokens(2, 6);
  const auto alone = model->encode_to_latents(seq);
  const auto padded = model->encode_to_latents(at::constant_pad_nd(seq, {0, 4}, -1));
  EXPECT_TRUE(at::allclose(alone.mean, padded.mean, 1e-5, 1e-6));
  EXPECT_TRUE(at::allclose(alone.log_var, padded.log_var, 1e-5, 1e-6));
}

TEST(GPTVAE, CachedGenerationWithLatentsEqualsUncached) {
  auto model = make(options());
  GenerateOptions greedy;
  greedy.temperature = 0;
  greedy.seq_len = 9;
  GenerationInputs inputs;
  inputs.prompts = tokens(2, 4);
  const auto latents = at::randn({2, 5});
  const auto cached = model->generate(inputs, greedy, latents);
  inputs.cache_kv = false;
  EXPECT_TRUE(at::equal(model->generate(inputs, greedy, latents), cached));
  inputs.prompts = inputs.prompts[1];
  EXPECT_TRUE(at::equal(model->generate(inputs, greedy, latents[1]), cached[1]));
}

TEST(GPTVAE, RefusesLatentsThatAreNotFinite) {
  auto model = make(options());
  GenerationInputs inputs;
  inputs.prompts = tokens(2, 4);
  auto latents = at::randn({2, 5});
  latents[1][3] = NAN;
  EXPECT_THAT(
      [&] { model->generate(inputs, {}, latents); },
      ThrowsMessage<InputError>("latents: expected finite numbers, got nan at position [1, 3]"));
  latents[0][0] = -INFINITY;
  EXPECT_THAT([&] { model->generate(inputs, {}, latents); },
              ThrowsMessage<InputError>(HasSubstr("got -inf at position [0, 0]")));
}

TEST(GPTVAE, Refuses) {
  auto given = options();
  given.layers.depth = std::nullopt;
  EXPECT_THAT([&] { make(given); }, ThrowsMessage<InputError>("depth: is needed"));
  given = options();
  given.latents_dropout_prob = 2;
  EXPECT_THAT([&] { make(given); }, ThrowsMessage<InputError>(HasSubstr("latents_dropout_prob")));
  given = options();
  given.enc_depth = 20000;
  EXPECT_THAT([&] { make(given); }, ThrowsMessage<InputError>(HasSubstr("enc_depth")));
  given = options();
  given.enc_kwargs = given.layers;
  given.enc_kwargs->heads = -1;
  EXPECT_THAT([&] { make(given); }, ThrowsMessage<InputError>(HasSubstr("enc_kwargs.heads")));
  GenerationInputs inputs;
  inputs.prompts = tokens(2, 4);
  EXPECT_THROW(make(options())->generate(inputs, {}, at::randn({2, 4})), InputError);
}

}  // namespace
}  // namespace x_transformers::gpt_vae_test
