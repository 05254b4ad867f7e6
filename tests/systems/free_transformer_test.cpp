// Codes that condition a decoder.
#include "x_transformers/systems/free_transformer.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "x_transformers/core/error.h"
#include "x_transformers/generation/beam_search.h"

namespace x_transformers::free_transformer_test {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

constexpr int64_t kTokens = 11;

FreeTransformerOptions options() {
  FreeTransformerOptions options;
  options.num_tokens = kTokens;
  options.dec_head_depth = options.dec_tail_depth = 1;
  options.max_seq_len = 16;
  options.latent_bits = 3;
  options.layers.dim = 16;
  options.layers.heads = 2;
  options.layers.attn.dim_head = 8;
  return options;
}

FreeTransformer make(const FreeTransformerOptions& options) {
  at::manual_seed(4);
  FreeTransformer model(options);
  model->eval();
  return model;
}

at::Tensor tokens(int64_t batch, int64_t length) {
  return at::randint(kTokens, {batch, length}, at::kLong);
}

GenerateOptions greedy(int64_t seq_len) {
  auto options = FreeTransformerImpl::usual_sampling();
  options.seq_len = seq_len;
  options.temperature = 0;
  return options;
}

TEST(BinaryMapper, DrawsEachBitAsOftenAsItsProbability) {
  BinaryMapper mapper(BinaryMapperOptions{2});
  at::manual_seed(1);
  const double logit = std::log(3.0);  // 3 of 4
  const auto drawn = mapper->forward(at::tensor({logit, -logit}).expand({20000, 2}));
  const auto share = drawn.one_hot.mean(0);
  EXPECT_TRUE(at::allclose(share, at::tensor({3 / 16.0, 9 / 16.0, 1 / 16.0, 3 / 16.0}), 0, 0.02));
  EXPECT_TRUE(at::equal(drawn.one_hot.argmax(-1), drawn.codes));
}

TEST(BinaryMapper, GradientsAreThoseOfTheProbabilities) {
  BinaryMapper mapper(BinaryMapperOptions{2});
  mapper->train();
  auto logits = at::randn({5, 2}, at::kDouble).requires_grad_();
  const auto weights = at::randn({4}, at::kDouble);
  (mapper->forward(logits).one_hot * weights).sum().backward();
  const auto prob = logits.detach().sigmoid();
  const auto p = prob.select(1, 0), q = prob.select(1, 1);
  const auto w = [&](int64_t code) { return weights[code]; };
  const auto of_first = p * (1 - p) * ((w(1) - w(0)) * (1 - q) + (w(3) - w(2)) * q);
  const auto of_second = q * (1 - q) * ((w(2) - w(0)) * (1 - p) + (w(3) - w(1)) * p);
  EXPECT_TRUE(at::allclose(logits.grad(), at::stack({of_first, of_second}, 1)));
}

TEST(BinaryMapper, InformationAboveTheThresholdCosts) {
  BinaryMapper mapper(BinaryMapperOptions{3, 0.5});
  BinaryMapperCall call;
  call.calc_aux_loss = true;
  const auto loss = [&](double logit) {
    return mapper->forward(at::full({2, 3}, logit), call).aux_kl_loss.item<double>();
  };
  EXPECT_EQ(loss(0), 0);
  EXPECT_NEAR(loss(50), 3 * std::numbers::ln2 - 0.5, 1e-5);
}

TEST(FreeTransformer, EveryParameterLearns) {
  auto model = make(options());
  model->train();
  auto given = options();
  model->forward(tokens(2, 8)).total.backward();
  for (const auto& parameter : model->named_parameters())
    EXPECT_TRUE(parameter->grad().defined()) << parameter.key();
}

TEST(FreeTransformer, ADrawnCodeIsOneOfThoseThatCanBeGiven) {
  auto given = options();
  given.per_token_latents = false;
  auto model = make(given);
  const auto prompts = tokens(1, 3);
  const auto drawn = model->generate(prompts, greedy(6));
  bool is_found = false;
  for (int64_t code = 0; code < 8; ++code)
    is_found =
        is_found || at::equal(model->generate(prompts, greedy(6), at::tensor({code})), drawn);
  EXPECT_TRUE(is_found);
}

TEST(FreeTransformer, CachedGenerationEqualsUncached) {
  for (const int64_t head : {0, 1}) {
    auto given = options();
    given.dec_head_depth = head;
    auto model = make(given);
    const auto prompts = tokens(3, 4);
    const auto codes = at::randint(8, {3, 4 + 9}, at::kLong);
    const auto cached = model->generate(prompts, greedy(9), codes);
    EXPECT_TRUE(at::equal(model->generate(prompts, greedy(9), codes, false), cached));
    EXPECT_TRUE(
        at::equal(model->generate(prompts[1], greedy(9), codes.narrow(0, 1, 1)), cached[1]));
  }
}

TEST(FreeTransformer, CountsNewTokensUnlikePython) {
  auto given = options();
  const auto prompts = tokens(2, 4);
  EXPECT_EQ(make(given)->generate(prompts, greedy(6)).sizes(), at::IntArrayRef({2, 6}));
  given.compat.python_quirks = true;
  auto python = make(given);
  const auto out = python->generate(prompts, greedy(6));
  EXPECT_EQ(out.sizes(), at::IntArrayRef({2, 6}));
  EXPECT_TRUE(at::equal(out.narrow(1, 0, 4), prompts));
  EXPECT_TRUE(at::equal(python->generate(prompts, greedy(3)), prompts));
}

TEST(FreeTransformer, PaddingThatIsNoTokenChangesNothing) {
  // Of one code for the sequence, as certain as the encoder can be.
  const torch::NoGradGuard no_grad;
  auto given = options();
  given.per_token_latents = false;
  auto model = make(given);
  model->named_parameters()["to_latent_bit_logits.weight"].mul_(1e6);
  const auto seq = tokens(2, 6);
  const auto padded = at::constant_pad_nd(seq, {0, 3}, -1);
  const auto alone = model->forward(seq, seq), beside = model->forward(padded, padded);
  EXPECT_NEAR(alone.ar_loss.item<double>(), beside.ar_loss.item<double>(), 1e-5);
}

TEST(FreeTransformer, AWriterDrawsACodeForEachToken) {
  const torch::NoGradGuard no_grad;
  auto model = make(options());
  const auto prompts = tokens(2, 4);
  at::manual_seed(6);
  const auto codes = at::randint(8, {2, 4}, at::kLong);
  at::manual_seed(6);
  const auto session = model->start_session({1});
  const auto logits = session->append(prompts);
  EXPECT_TRUE(at::equal(logits.argmax(-1, true), model->generate(prompts, greedy(1), codes)));
}

TEST(FreeTransformer, ABeamSearchComparesTextsUnderTheSameCodes) {
  const torch::NoGradGuard no_grad;
  for (const bool per_token : {true, false}) {
    auto given = options();
    given.per_token_latents = per_token;
    auto model = make(given);
    for (int64_t seed = 0; seed < 5; ++seed) {
      const auto search = [&](int64_t beams) {
        BeamSearchOptions options;
        options.seq_len = 2;
        options.beams = beams;
        options.return_beams_and_scores = true;
        const auto session = model->start_session({2, std::nullopt, seed});
        return beam_search(*session, {tokens(1, 1).zero_(), 0, {}}, options).scores.max();
      };
      // As many beams as tokens: all texts of two are looked at, the greedy one among them.
      EXPECT_GE(search(kTokens).item<float>() + 1e-5F, search(1).item<float>())
          << per_token << seed;
    }
  }
}

TEST(FreeTransformer, Refuses) {
  auto given = options();
  given.latent_bits = 40;
  EXPECT_THAT([&] { make(given); },
              ThrowsMessage<InputError>("latent_bits: expected 1 to 24, got 40"));
  given = options();
  given.dec_tail_depth = 0;
  EXPECT_THAT([&] { make(given); }, ThrowsMessage<InputError>(HasSubstr("dec_tail_depth")));
  given = options();
  given.dec_kwargs = given.layers;
  given.dec_kwargs->heads = 0;
  EXPECT_THAT([&] { make(given); }, ThrowsMessage<InputError>(HasSubstr("dec_kwargs.heads")));
  auto model = make(options());
  EXPECT_THROW(model->generate(tokens(2, 3), greedy(2), at::randn({2, 7})), InputError);
  EXPECT_THROW(model->generate(tokens(2, 3), greedy(2), at::tensor({1, 2, 3})), InputError);
  EXPECT_THAT(
      [&] {
        model->generate(tokens(1, 3), greedy(4), at::tensor({1, 2, 3, 4}).unsqueeze(0));
      },
      ThrowsMessage<InputError>(HasSubstr("latents: expected one for each token")));
  EXPECT_THROW(model->forward(tokens(2, 1)), InputError);
}

}  // namespace
}  // namespace x_transformers::free_transformer_test
