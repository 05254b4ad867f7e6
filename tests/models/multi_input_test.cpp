// MultiInputTransformerWrapper: what fails or is wrong in Python and works here, and wrong input
// refused by name.
#include "x_transformers/models/multi_input.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/json_options.h"

namespace x_transformers::multi_input_test {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

constexpr int64_t kBatch = 2, kTokens = 7;

MultiInputTransformerWrapper make_net(const char* layers = "{}", const char* net = "{}",
                                      bool quirks = false) {
  auto config = parse_json(R"({"num_tokens": {"note": 9, "pitch": 7}, "max_seq_len": 16})");
  config.update(parse_json(net));
  config["attn_layers"] =
      parse_json(R"({"type": "Decoder", "dim": 16, "depth": 2, "heads": 2, "attn_dim_head": 8})");
  config["attn_layers"].update(parse_json(layers));
  auto options = options_from_json<MultiInputTransformerWrapperOptions>(config, "config");
  options.compat.python_quirks = quirks;
  at::manual_seed(1);
  MultiInputTransformerWrapper made(options);
  made->eval();
  return made;
}

MultiInputs tokens() {
  MultiInputs inputs;
  inputs.x = {{"note", at::randint(9, {kBatch, kTokens}, at::kLong)},
              {"pitch", at::randint(7, {kBatch, kTokens}, at::kLong)}};
  return inputs;
}

/// Groups of tokens with memory tokens in front of each, as a stack of embeddings put together by
/// hand has them; Python fails.
TEST(MultiInput, InterspersedMemoryTokensStandBeforeEachGroup) {
  auto net = make_net("{}", R"({"num_memory_tokens": 2, "memory_tokens_interspersed_every": 3})");
  auto plain = make_net();
  auto inputs = tokens();
  const auto output = net->forward(inputs);
  ASSERT_EQ(output.logits.at("note").sizes(), at::IntArrayRef({kBatch, kTokens, 9}));
  EXPECT_EQ(output.memory_tokens.sizes(), at::IntArrayRef({kBatch * 3, 2, 16}));

  const auto named = net->named_parameters();
  const auto of = [&](const char* name) { return named[name]; };
  auto x = of("embeds.note_embed.weight").index({inputs.x.at("note")}) +
           of("embeds.pitch_embed.weight").index({inputs.x.at("pitch")}) +
           of("pos_emb.emb.weight").narrow(0, 0, kTokens) * 0.25;
  const auto memory = of("memory_tokens").unsqueeze(0).expand({kBatch, -1, -1});
  AttentionLayersInputs layers;
  layers.x = at::cat({memory, x.narrow(1, 0, 3), memory, x.narrow(1, 3, 3), memory,
                      x.narrow(1, 6, 1), at::zeros({kBatch, 2, 16})},
                     1);
  const auto out = net->attn_layers()->forward(layers).out;
  const auto wanted = at::cat({out.narrow(1, 2, 3), out.narrow(1, 7, 3), out.narrow(1, 12, 1)}, 1);
  EXPECT_TRUE(at::allclose(output.embeddings, wanted, 1e-4, 1e-5));

  inputs.mask = at::ones({kBatch, kTokens}, at::kBool);
  EXPECT_TRUE(at::allclose(net->forward(inputs).embeddings, wanted, 1e-4, 1e-5));
}

/// Python fails: calc_z_loss is not defined there.
TEST(MultiInput, HasAnAttentionZLoss) {
  auto net = make_net();
  auto inputs = tokens();
  inputs.keep_maps = true;
  const auto output = net->forward(inputs);
  ASSERT_EQ(output.layers.attention.size(), 2u);
  const auto loss = attn_z_loss(output.layers, 1e-4);
  at::Tensor sum = at::zeros({kBatch, 2, kTokens});
  for (const auto& attended : output.layers.attention)
    sum = sum + attended.maps.pre_softmax_attn.logsumexp(-1);
  EXPECT_NEAR(loss.item<double>(), sum.square().sum(1).mean().item<double>() * 1e-4, 1e-7);
  loss.backward();
  EXPECT_TRUE(
      net->named_parameters()["embeds.note_embed.weight"].grad().abs().sum().item<double>() > 0);
}

/// Python drops as many of the last tokens as there are prepended embeddings.
TEST(MultiInput, PrependedEmbeddingsAndMemoryTokensLeaveEveryToken) {
  const char* memory = R"({"num_memory_tokens": 2})";
  auto inputs = tokens();
  inputs.prepend_embeds = at::randn({kBatch, 3, 16});
  const auto all = make_net("{}", memory)->forward(inputs).embeddings;
  const auto of_python = make_net("{}", memory, true)->forward(inputs).embeddings;
  ASSERT_EQ(all.sizes(), at::IntArrayRef({kBatch, kTokens + 3, 16}));
  ASSERT_EQ(of_python.sizes(), at::IntArrayRef({kBatch, kTokens, 16}));
  EXPECT_TRUE(at::allclose(all.narrow(1, 0, kTokens), of_python));
}

TEST(MultiInput, NothingLooksAheadInAnyInput) {
  auto net = make_net("{}", R"({"num_memory_tokens": 2})");
  auto inputs = tokens();
  const auto before = net->forward(inputs).embeddings;
  for (const char* name : {"note", "pitch"}) {
    auto changed = inputs;
    changed.x[name] = inputs.x.at(name).clone();
    changed.x[name].select(1, 4).add_(1).remainder_(7);
    const auto after = net->forward(changed).embeddings;
    EXPECT_TRUE(at::allclose(after.narrow(1, 0, 4), before.narrow(1, 0, 4))) << name;
    EXPECT_FALSE(at::allclose(after.select(1, 4), before.select(1, 4))) << name;
  }
}

template <class Call>
void expect_refusal(Call call, const char* text) {
  EXPECT_THAT(call, ThrowsMessage<InputError>(HasSubstr(text)));
}

TEST(MultiInput, RefusesOptionsThatDoNotGoTogether) {
  expect_refusal([] { make_net("{}", R"({"num_tokens": {}})"); }, "num_tokens");
  expect_refusal([] { make_net("{}", R"({"num_tokens": {"note": 0}})"); }, "num_tokens.note");
  expect_refusal([] { make_net("{}", R"({"emb_frac_gradient": 0.0})"); }, "emb_frac_gradient");
  expect_refusal(
      [] {
        make_net(R"({"type": "Encoder"})",
                 R"({"num_memory_tokens": 2, "memory_tokens_interspersed_every": 3})");
      },
      "memory_tokens_interspersed_every");
}

TEST(MultiInput, RefusesInputsThatDoNotFit) {
  auto net = make_net();
  const auto with = [&](auto set) {
    auto inputs = tokens();
    set(inputs);
    return [&net, inputs] { net->forward(inputs); };
  };
  using I = MultiInputs;
  expect_refusal(with([](I& i) { i.x.erase("note"); }), "x.note");
  expect_refusal(with([](I& i) { i.x["tone"] = i.x["note"]; }), "x.tone");
  expect_refusal(with([](I& i) { i.x["note"] = at::randn({kBatch, kTokens}); }), "x.note");
  expect_refusal(with([](I& i) { i.x["note"] = i.x["note"].narrow(1, 0, 3); }), "x.note");
  expect_refusal(with([](I& i) { i.mask = at::ones({kBatch, 3}, at::kBool); }), "mask");
  expect_refusal(with([](I& i) { i.sum_embeds = at::randn({kBatch, kTokens, 8}); }), "sum_embeds");
  expect_refusal(with([](I& i) { i.pos = at::randn({kTokens, 8}); }), "pos");
}

}  // namespace
}  // namespace x_transformers::multi_input_test
