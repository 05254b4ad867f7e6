// Encoder and decoder together.
#include "x_transformers/systems/x_transformer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "x_transformers/core/error.h"

namespace x_transformers {
namespace {

constexpr int64_t kSource = 11, kTarget = 13;

XTransformerOptions options() {
  XTransformerOptions options;
  options.dim = 16;
  for (auto* side : {&options.enc, &options.dec}) {
    side->max_seq_len = 12;
    side->attn_layers.depth = 1;
    side->attn_layers.heads = 2;
    side->attn_layers.attn.dim_head = 8;
  }
  options.enc.num_tokens = kSource;
  options.dec.num_tokens = kTarget;
  return options;
}

XTransformer make(const XTransformerOptions& options) {
  at::manual_seed(3);
  XTransformer model(options);
  model->eval();
  return model;
}

at::Tensor tokens(int64_t vocabulary, int64_t length) {
  at::manual_seed(4);
  return at::randint(vocabulary, {2, length}, at::kLong);
}

TEST(XTransformer, TheLossIsTheCrossEntropyOfTheNextTarget) {
  const torch::NoGradGuard no_grad;
  auto model = make(options());
  const auto tgt = tokens(kTarget, 6);
  const auto output = model->forward(tokens(kSource, 5), tgt);
  const auto log_probabilities = output.logits.log_softmax(-1);
  const auto expected = -log_probabilities.gather(-1, tgt.narrow(1, 1, 5).unsqueeze(-1)).mean();
  EXPECT_NEAR(output.loss.item<double>(), expected.item<double>(), 1e-5);
}

TEST(XTransformer, AMaskedSourceTokenDoesNotMatter) {
  const torch::NoGradGuard no_grad;
  auto model = make(options());
  const auto src = tokens(kSource, 5), tgt = tokens(kTarget, 6);
  auto changed = src.clone();
  changed.select(1, 4).add_(1).remainder_(kSource);
  auto mask = at::ones({2, 5}, at::kBool);
  mask.select(1, 4).fill_(false);
  const auto loss = [&](const at::Tensor& source, const at::Tensor& given) {
    return model->forward(source, tgt, {.mask = given}).loss.item<double>();
  };
  EXPECT_NEAR(loss(src, mask), loss(changed, mask), 1e-6);
  EXPECT_GT(std::abs(loss(src, {}) - loss(changed, {})), 1e-6);
}

TEST(XTransformer, WritesTheSameWithAndWithoutCaches) {
  auto model = make(options());
  GenerateOptions greedy;
  greedy.seq_len = 6;
  greedy.temperature = 0;
  GenerationInputs inputs;
  inputs.prompts = tokens(kTarget, 2);
  const auto src = tokens(kSource, 5);
  const auto cached = model->generate(src, inputs, greedy);
  EXPECT_EQ(cached.sizes(), at::IntArrayRef({2, 6}));
  inputs.cache_kv = false;
  EXPECT_TRUE(at::equal(model->generate(src, inputs, greedy), cached));
}

TEST(XTransformer, OneEmbeddingForBothSidesIsOneParameter) {
  auto tied = options();
  tied.tie_token_emb = true;
  tied.enc.num_tokens = tied.dec.num_tokens;
  const auto is_shared = [](const XTransformerOptions& given) {
    const auto parameters = make(given)->named_parameters();
    return parameters["encoder.token_emb.emb.weight"].is_same(
        parameters["decoder.net.token_emb.emb.weight"]);
  };
  EXPECT_TRUE(is_shared(tied));
  tied.tie_token_emb = false;
  EXPECT_FALSE(is_shared(tied));
}

TEST(XTransformer, TheSourceMayHaveMoreTokensThanTheTarget) {
  auto tied = options();
  tied.tie_token_emb = true;
  tied.enc.num_tokens = kTarget + 3;
  auto model = make(tied);
  EXPECT_EQ(model->forward(tokens(kTarget + 3, 5), tokens(kTarget, 6)).logits.size(-1), kTarget);
}

TEST(XTransformer, TheTargetMayHaveMoreTokensThanTheSourceWhereTheyAreNotWritten) {
  auto tied = options();
  tied.tie_token_emb = true;
  tied.enc.num_tokens = kTarget - 3;
  auto model = make(tied);
  EXPECT_EQ(model->decoder()->net()->embedded_tokens()->count, kTarget - 3);
  EXPECT_EQ(model->forward(tokens(kTarget - 3, 5), tokens(kTarget - 3, 6)).logits.size(-1),
            kTarget);
}

TEST(XTransformer, TokensOfTheSourceAreLeftOutInTraining) {
  const torch::NoGradGuard no_grad;
  auto dropping = options();
  dropping.cross_attn_tokens_dropout = 0.5;
  auto model = make(dropping);
  const auto src = tokens(kSource, 3).narrow(0, 0, 1), tgt = tokens(kTarget, 6).narrow(0, 0, 1);
  const auto encoded = model->encoder()->forward(src);
  std::vector<at::Tensor> expected;
  for (int64_t token = 0; token < 3; ++token) {
    TransformerInputs inputs;
    inputs.layers.context = encoded.narrow(1, token, 1);
    expected.push_back(model->decoder()->forward(tgt, inputs).loss);
  }
  const auto whole = model->forward(src, tgt).loss;
  const auto fits = [&](const at::Tensor& loss) {
    return std::any_of(expected.begin(), expected.end(),
                       [&](const at::Tensor& one) { return at::allclose(loss, one, 1e-5, 1e-6); });
  };
  EXPECT_FALSE(fits(whole)) << "left out in eval mode";
  model->train();
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(fits(model->forward(src, tgt).loss));
}

TEST(XTransformer, EverySideNeedsAVocabulary) {
  auto missing = options();
  missing.dec.num_tokens = 0;
  EXPECT_THROW(XTransformer{missing}, InputError);
}

std::string refusal(const std::function<void()>& call) {
  try {
    call();
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

TEST(XTransformer, RefusesAWidthOfOneSideThatIsNotItsOwn) {
  auto given = options();
  given.enc.attn_layers.dim = 16;
  EXPECT_EQ(refusal([&] { make(given); }), "");
  given.enc.attn_layers.dim = 32;
  EXPECT_EQ(refusal([&] { make(given); }),
            "enc.attn_layers.dim: is 32, but dim of both sides is 16; set that one alone");
}

TEST(XTransformer, NamesATokenThatItsSideDoesNotKnow) {
  auto model = make(options());
  const auto source = at::zeros({2, 4}, at::kLong), target = at::zeros({2, 4}, at::kLong);
  const auto wrong = at::tensor({0, 1, 12, 3, 0, 0, 0, 0}, at::kLong).view({2, 4});
  EXPECT_EQ(refusal([&] { model->forward(wrong, target); }),
            "src: 12 at position [0, 2], expected 0 to 10 (enc_num_tokens is 11)");
  EXPECT_EQ(refusal([&] { model->forward(source, wrong + 1); }),
            "tgt: 13 at position [0, 2], expected 0 to 12 (dec_num_tokens is 13)");
}

}  // namespace
}  // namespace x_transformers
