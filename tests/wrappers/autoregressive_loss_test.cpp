// The training loss against its definition: the mean of -log p(next token) over the whole sequence.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/json_options.h"
#include "x_transformers/models/transformer_wrapper.h"
#include "x_transformers/wrappers/autoregressive.h"

namespace x_transformers::autoregressive_loss_test {
namespace {

AutoregressiveWrapper make_model(const std::string& layers, const std::string& net = "{}") {
  auto config = Json::parse(R"({"num_tokens": 19, "max_seq_len": 12, "attn_layers":
      {"type": "Decoder", "dim": 16, "depth": 2, "heads": 2, "attn_dim_head": 8}})");
  config["attn_layers"].update(Json::parse(layers));
  config.update(Json::parse(net));
  at::manual_seed(7);
  AutoregressiveWrapper model(
      TransformerWrapper(options_from_json<TransformerWrapperOptions>(config, "net")));
  model->eval();
  return model;
}

TransformerWrapper net_of(AutoregressiveWrapper& model) {
  return TransformerWrapper(std::dynamic_pointer_cast<TransformerWrapperImpl>(model->net()));
}

at::Tensor defined_loss(AutoregressiveWrapper& model, const at::Tensor& tokens,
                        int64_t ignore_index) {
  const auto n = tokens.size(1);
  const auto logits =
      net_of(model)->forward(tokens.masked_fill(tokens == ignore_index, 0)).narrow(1, 0, n - 1);
  return at::cross_entropy_loss(logits.flatten(0, 1), tokens.narrow(1, 1, n - 1).flatten(), {},
                                at::Reduction::Mean, ignore_index);
}

class AutoregressiveLoss : public testing::TestWithParam<const char*> {};

// Among them stacks whose tokens see, or whose results depend on, all others: these need the last
// token.
INSTANTIATE_TEST_SUITE_P(Options, AutoregressiveLoss,
                         testing::Values("{}", R"({"rotary_pos_emb": true})",
                                         R"({"shift_tokens": 1})", R"({"attn_selective": true})",
                                         R"({"attn_orthog_projected_values": true})",
                                         R"({"attn_data_dependent_alibi": true})",
                                         R"({"num_residual_streams": 3})", R"({"type": "Encoder"})",
                                         R"({"residual_attn": true})"));

TEST_P(AutoregressiveLoss, IsThatOfTheWholeSequence) {
  auto model = make_model(GetParam());
  auto tokens = at::randint(0, 19, {3, 12});
  tokens[1][4] = -100;
  tokens[2][11] = -100;
  const auto output = model->forward(tokens);
  EXPECT_TRUE(at::allclose(output.loss, defined_loss(model, tokens, -100), 1e-5, 1e-6));
  EXPECT_EQ(output.logits.sizes(), at::IntArrayRef({3, 11, 19}));
}

TEST(AutoregressiveLossLength, OneTokenMoreThanMaxSeqLen) {
  auto model = make_model("{}");
  const auto tokens = at::randint(0, 19, {2, 13});
  // Its target is token 13, but no position beyond the 12th is asked for.
  EXPECT_EQ(model->forward(tokens).logits.size(1), 12);
  EXPECT_THROW(model->forward(at::randint(0, 19, {2, 14})), InputError);
}

TEST(AutoregressiveLossLength, WhatIsGivenForAllTokensIsUsed) {
  auto model = make_model("{}");
  const auto tokens = at::randint(0, 19, {2, 12});
  TransformerInputs inputs;
  inputs.mask = at::ones({2, 12}, at::kBool);
  EXPECT_TRUE(
      at::allclose(model->forward(tokens, inputs).loss, model->forward(tokens).loss, 1e-5, 1e-6));
}

// Half of four keys, but never the first: two of three, each pair as likely. In eval mode too, as
// in Python.
TEST(MaskProb, HidesThatPartOfTheKeysAndNeverTheFirst) {
  const torch::NoGradGuard no_grad;
  auto plain = make_model(R"({"rotary_pos_emb": true})");
  AutoregressiveWrapperOptions options;
  options.mask_prob = 0.5;
  AutoregressiveWrapper masked(plain->net(), options);
  const auto tokens = at::randint(0, 19, {1, 4});
  std::vector<at::Tensor> expected;
  for (int64_t seen = 1; seen < 4; ++seen) {
    TransformerInputs inputs;
    inputs.layers.self_attn_kv_mask = at::zeros({1, 4}, at::kBool);
    for (const auto key : {int64_t{0}, seen}) inputs.layers.self_attn_kv_mask[0][key] = true;
    expected.push_back(plain->forward(tokens, inputs).loss);
  }
  constexpr int64_t kCalls = 300;
  at::manual_seed(11);
  std::vector<int64_t> counts(expected.size());
  for (int64_t i = 0; i < kCalls; ++i) {
    const auto loss = masked->forward(tokens).loss;
    int64_t fitting = 0;
    for (size_t which = 0; which < expected.size(); ++which) {
      if (!at::allclose(loss, expected[which], 1e-5, 1e-6)) continue;
      ++counts[which];
      ++fitting;
    }
    ASSERT_EQ(fitting, 1) << "another part of the keys is hidden";
  }
  // A third each, within five standard deviations.
  for (const auto count : counts)
    EXPECT_NEAR(static_cast<double>(count) / kCalls, 1.0 / 3, 5 * std::sqrt(2.0 / 9 / kCalls));
}

TEST(AutoregressiveLoss, NextEmbeddingsPassOverPrependedOnes) {
  auto model = make_model("{}", R"({"add_continuous_pred_head": true})");
  const auto tokens = at::randint(0, 19, {2, 6});
  TransformerInputs inputs;
  inputs.prepend_embeds = at::randn({2, 3, 16});
  const auto output = model->forward(tokens, inputs);
  const auto of_tokens =
      at::cross_entropy_loss(output.logits.flatten(0, 1), tokens.narrow(1, 1, 5).flatten());
  const auto errors =
      (output.net.next_embed_pred.narrow(1, 3, 5) -
       net_of(model)->token_emb()->embed(tokens, {}).narrow(1, 1, 5) -
       net_of(model)->named_parameters()["pos_emb.emb.weight"].narrow(0, 1, 5) * 0.25)
          .abs();
  EXPECT_TRUE(at::allclose(output.loss, of_tokens + errors.mean() * 0.1, 1e-5, 1e-6));
}

TEST(AutoregressiveLoss, NeedsLogitsOfEachToken) {
  for (const auto& [option, config] :
       {std::pair{"use_cls_token", R"({"use_cls_token": true})"},
        std::pair{"average_pool_embed", R"({"average_pool_embed": true})"},
        std::pair{"squeeze_out_last_dim", R"({"squeeze_out_last_dim": true, "logits_dim": 1})"}}) {
    try {
      make_model("{}", config);
      ADD_FAILURE() << option << " was taken";
    } catch (const InputError& error) {
      EXPECT_EQ(
          std::string(error.what()),
          std::string("net.") + option + ": leaves no logits of each token to predict the next by");
    }
  }
}

}  // namespace
}  // namespace x_transformers::autoregressive_loss_test
