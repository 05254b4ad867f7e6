// Sequences longer than the net: each segment sees those before it as memories.
#include "x_transformers/wrappers/xl_autoregressive.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/json_options.h"
#include "x_transformers/models/transformer_wrapper.h"

namespace x_transformers::xl_autoregressive_test {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

constexpr int64_t kTokens = 19, kSegment = 4;

XLAutoregressiveWrapper make_model(const std::string& layers, const std::string& net = "{}",
                                   XLAutoregressiveWrapperOptions options = {}) {
  auto config = Json::parse(R"({"num_tokens": 19, "max_seq_len": 4, "max_mem_len": 6, "attn_layers":
      {"type": "Decoder", "dim": 16, "depth": 2, "heads": 2, "attn_dim_head": 8}})");
  config["attn_layers"].update(Json::parse(layers));
  config.update(Json::parse(net));
  at::manual_seed(7);
  auto net_options = options_from_json<TransformerWrapperOptions>(config, "net");
  net_options.compat = options.compat;
  XLAutoregressiveWrapper model((TransformerWrapper(net_options)), options);
  model->eval();
  const torch::NoGradGuard no_grad;
  for (auto& item : model->named_parameters()) {
    if (item.key().find("to_") != std::string::npos) item.value().mul_(3);  // tokens that differ
  }
  return model;
}

/// The logits after `tokens`, as if processing began with them.
at::Tensor logits_after(XLAutoregressiveWrapper& model, const at::Tensor& tokens,
                        TransformerInputs inputs = {}) {
  const auto& net = model->net();
  const auto kept = net->traits().kept_mems;
  int64_t begin = 0;
  for (; tokens.size(1) - begin > kSegment; begin += kSegment) {
    inputs.x = tokens.narrow(1, begin, kSegment);
    inputs.keep_hiddens = true;
    inputs.mems = next_mems(net->forward(inputs), kept);
  }
  inputs.x = tokens.narrow(1, begin, tokens.size(1) - begin);
  return net->forward(inputs).logits.at(0).select(1, -1);
}

GenerateOptions greedy(int64_t seq_len) {
  GenerateOptions options;
  options.seq_len = seq_len;
  options.temperature = 0;
  return options;
}

struct Stack {
  const char* layers;
  const char* net = "{}";
};

class XLGeneration : public testing::TestWithParam<Stack> {};

INSTANTIATE_TEST_SUITE_P(
    Stacks, XLGeneration,
    testing::Values(Stack{"{}"}, Stack{R"({"rel_pos_bias": true})"},
                    Stack{R"({"rotary_pos_emb": true})"}, Stack{R"({"alibi_pos_bias": true})"},
                    Stack{R"({"rotary_pos_emb": true, "attn_kv_heads": 1})"},
                    Stack{R"({"attn_num_mem_kv": 2})"}, Stack{R"({"residual_attn": true})"},
                    Stack{R"({"shift_tokens": 1})"}, Stack{"{}", R"({"max_mem_len": 0})"},
                    Stack{"{}", R"({"max_mem_len": 2})"}, Stack{"{}", R"({"shift_mem_down": 1})"},
                    Stack{R"({"rel_pos_bias": true})", R"({"use_abs_pos_emb": false})"},
                    Stack{"{}", R"({"num_memory_tokens": 2})"}));

TEST_P(XLGeneration, IsSegmentBySegmentWithoutACache) {
  const torch::NoGradGuard no_grad;
  auto model = make_model(GetParam().layers, GetParam().net);
  for (const int64_t given : {1, 3, 4, 9, 12}) {
    auto expected = at::randint(0, kTokens, {2, given});
    const auto out = model->generate({expected, {}, {}}, greedy(11));
    for (int64_t i = 0; i < 11; ++i)
      expected = at::cat({expected, logits_after(model, expected).argmax(-1).unsqueeze(1)}, 1);
    EXPECT_TRUE(at::equal(out, expected.narrow(1, given, 11))) << given << " tokens given";
  }
}

TEST(XLGeneration, GoesOnFromMemoriesGiven) {
  const torch::NoGradGuard no_grad;
  auto model = make_model(R"({"rotary_pos_emb": true})");
  XLGenerationInputs inputs;
  inputs.net.mems = {at::randn({2, 3, 16}), at::randn({2, 3, 16})};
  inputs.start_tokens = at::randint(0, kTokens, {2, 6});
  auto expected = inputs.start_tokens;
  for (int64_t i = 0; i < 6; ++i)
    expected =
        at::cat({expected, logits_after(model, expected, inputs.net).argmax(-1).unsqueeze(1)}, 1);
  EXPECT_TRUE(at::equal(model->generate(inputs, greedy(6)), expected.narrow(1, 6, 6)));
}

TEST(XLGeneration, AnEosInThePromptEndsNothing) {
  auto model = make_model("{}");
  auto options = greedy(7);
  options.eos_token = 3;
  const auto out = model->generate({at::full({2, 6}, 3, at::kLong), {}, {}}, options);
  EXPECT_GT(out.size(1), 0);
  const auto one = model->generate({at::full({6}, 3, at::kLong), {}, {}}, greedy(7));
  EXPECT_EQ(one.sizes(), at::IntArrayRef({7}));
}

/// The tokens that 2.31.10 generates, without a cache: what a step adds to the memories is one
/// token, but for the first and for those at the end of a segment, which is computed anew.
at::Tensor generated_anew(XLAutoregressiveWrapper& model, at::Tensor tokens, int64_t count) {
  const auto& net = model->net();
  const auto kept = net->traits().kept_mems;
  TransformerInputs inputs;
  inputs.keep_hiddens = true;
  std::vector<at::Tensor> left;  // by the last step
  int64_t begin = 0;
  const auto run = [&](const at::Tensor& x, int64_t added) {
    inputs.x = x;
    auto output = net->forward(inputs);
    for (auto& hidden : output.layers.hiddens)
      hidden = hidden.narrow(1, hidden.size(1) - added, added);
    left = next_mems(output, kept);
    return output.logits.at(0).select(1, -1).argmax(-1).unsqueeze(1);
  };
  for (; tokens.size(1) - begin > kSegment; begin += kSegment) {
    run(tokens.narrow(1, begin, kSegment), kSegment);
    inputs.mems = left;
  }
  for (int64_t i = 0; i < count; ++i) {
    const auto length = tokens.size(1);
    const bool ends = length % kSegment == 0;
    if (ends) inputs.mems = left;
    const auto first = ends ? length - kSegment : begin;
    const auto next =
        run(tokens.narrow(1, first, length - first), ends || i == 0 ? length - first : 1);
    if (ends) {
      inputs.mems = left;
      begin = length;
    }
    tokens = at::cat({tokens, next}, 1);
  }
  return tokens.narrow(1, tokens.size(1) - count, count);
}

TEST(XLGeneration, WithQuirksComputesSegmentsAnewIn2_31_10) {
  const torch::NoGradGuard no_grad;
  XLAutoregressiveWrapperOptions options;
  options.compat = {PythonRelease::v2_31_10, /*python_quirks=*/true};
  int64_t differ = 0;
  for (const char* layers :
       {"{}", R"({"rel_pos_bias": true})", R"({"alibi_pos_bias": true})",
        R"({"rotary_pos_emb": true})", R"({"rotary_pos_emb": true, "attn_kv_heads": 1})"}) {
    for (const char* net : {"{}", R"({"max_mem_len": 3})", R"({"shift_mem_down": 1})"}) {
      auto model = make_model(layers, net, options);
      for (const int64_t given : {1, 3, 4, 9, 12}) {
        const auto tokens = at::randint(0, kTokens, {2, given});
        const auto out = model->generate({tokens, {}, {}}, greedy(11));
        EXPECT_TRUE(at::equal(out, generated_anew(model, tokens, 11)))
            << layers << net << given << " tokens given";
        auto meant = tokens;
        for (int64_t i = 0; i < 11; ++i)
          meant = at::cat({meant, logits_after(model, meant).argmax(-1).unsqueeze(1)}, 1);
        differ += at::equal(out, meant.narrow(1, given, 11)) ? 0 : 1;
      }
    }
  }
  EXPECT_GT(differ, 10) << "it is what is meant";
}

TEST(XLGeneration, WithQuirksPadsAroundAnEosAsEachReleaseDoes) {
  const torch::NoGradGuard no_grad;
  constexpr int64_t kPad = 5;
  for (const auto release : {PythonRelease::v2_16_1, PythonRelease::v2_31_10}) {
    XLAutoregressiveWrapperOptions options;
    options.compat = {release, /*python_quirks=*/true};
    options.pad_value = kPad;
    auto model = make_model("{}", "{}", options);
    // A prompt after which the second token is a new one.
    at::Tensor second;
    int64_t eos = -1;
    for (int64_t token = 0; token < kTokens && eos < 0; ++token) {
      second = at::tensor({token, 1L}).view({1, 2});
      const auto written = model->generate({second, {}, {}}, greedy(2));
      const auto last = written[0][1];
      const bool is_new =
          !at::cat({second[0], written[0].narrow(0, 0, 1)}).eq(last).any().item<bool>();
      if (is_new) eos = last.item<int64_t>();
    }
    ASSERT_GE(eos, 0);
    // The first row has it in its prompt, the second one writes it.
    const auto prompts = at::cat({at::tensor({eos, 1L}).view({1, 2}), second});
    const auto free = model->generate({prompts, {}, {}}, greedy(2));
    auto ending = greedy(2);
    ending.eos_token = eos;
    const auto out = model->generate({prompts, {}, {}}, ending);
    auto expected = free.clone();
    if (release == PythonRelease::v2_16_1)
      expected.select(0, 0).fill_(kPad);
    else
      expected[1][0] = kPad;
    EXPECT_TRUE(at::equal(out, expected)) << out << expected;
  }
}

TEST(XLSession, RowsAreReorderedWithTheirMemories) {
  const torch::NoGradGuard no_grad;
  auto model = make_model(R"({"rel_pos_bias": true})");
  for (const int64_t given : {3, 4, 7, 8}) {
    auto tokens = at::randint(0, kTokens, {3, given});
    const auto session = model->start_session({});
    session->append(tokens);
    const auto rows = at::tensor({2, 0, 0, 1});
    session->reorder(rows);
    const auto next = at::randint(0, kTokens, {4, 3});
    const auto logits = session->append(next);
    tokens = at::cat({tokens.index_select(0, rows), next}, 1);
    EXPECT_TRUE(at::allclose(logits, logits_after(model, tokens), 1e-4, 1e-5)) << given;
  }
}

// The mean of each segment's targets, weighted by its tokens.
TEST(XLLoss, IsThatOfTheSegments) {
  auto model = make_model(R"({"rotary_pos_emb": true})");
  const auto x = at::randint(0, kTokens, {2, 11});
  at::Tensor expected = at::zeros({});
  for (int64_t i = 0; i < 10; ++i) {
    const auto loss =
        at::cross_entropy_loss(logits_after(model, x.narrow(1, 0, i + 1)), x.select(1, i + 1));
    expected = expected + loss / 10;
  }
  EXPECT_TRUE(at::allclose(model->forward(x), expected, 1e-5, 1e-6));
}

TEST(XLLoss, ASegmentOfPaddingDoesNoHarm) {
  auto model = make_model("{}");
  const auto x = at::randint(0, kTokens, {2, 9});
  auto padded = at::constant_pad_nd(x, {0, 3}, -100);
  const auto loss = model->forward(padded);
  EXPECT_TRUE(at::allclose(loss * 11 / 8, model->forward(x), 1e-5, 1e-6));
  loss.backward();
  for (const auto& parameter : model->parameters()) {
    const auto& gradient = parameter.grad();
    EXPECT_TRUE(!gradient.defined() || gradient.isfinite().all().item<bool>());
  }
}

TEST(XLLoss, WhatIsGivenForEachTokenIsCutToTheSegments) {
  auto model = make_model(R"({"rotary_pos_emb": true})");
  const auto x = at::randint(0, kTokens, {2, 11});
  TransformerInputs inputs;
  inputs.mask = at::ones({2, 10}, at::kBool);
  inputs.sum_embeds = at::zeros({2, 10, 16});
  const auto loss = model->forward(x);
  EXPECT_TRUE(at::allclose(model->forward(x, inputs), loss, 1e-5, 1e-6));
  inputs.sum_embeds = at::randn({2, 10, 16});
  inputs.sum_embeds.narrow(1, 0, 8).zero_();
  const auto other = model->forward(x, inputs);
  EXPECT_FALSE(at::allclose(other, loss, 1e-3, 1e-3)) << "the last segment's are left out";
  EXPECT_FALSE(at::allclose(other, loss * 0, 1e-3, 1e-3));
}

// Without the memories of what came before, each segment would be a text of its own.
TEST(XLLoss, AMaskIsOfAllSegments) {
  auto model = make_model(R"({"rel_pos_bias": true})");
  const auto x = at::randint(0, kTokens, {2, 11}, at::kLong);
  TransformerInputs inputs;
  inputs.mask = at::ones({2, kSegment}, at::kBool);
  EXPECT_THAT([&] { model->forward(x, inputs); },
              ThrowsMessage<InputError>(HasSubstr("mask: expected 10 tokens, or 11 with the last "
                                                  "target, got 4")));
  inputs.mask = at::ones({2, 11}, at::kBool);
  EXPECT_TRUE(at::allclose(model->forward(x, inputs), model->forward(x)));
}

TEST(XLLoss, GoesOnFromMemoriesGiven) {
  auto model = make_model("{}");
  const auto x = at::randint(0, kTokens, {2, 6});
  TransformerInputs inputs;
  inputs.mems = {at::randn({2, 5, 16}), at::randn({2, 5, 16})};
  EXPECT_FALSE(at::allclose(model->forward(x, inputs), model->forward(x), 1e-3, 1e-3));
}

TEST(XLErrors, NameWhatIsWrong) {
  EXPECT_THAT([] { make_model("{}", R"({"max_seq_len": 0})"); },
              ThrowsMessage<InputError>(HasSubstr("net.max_seq_len: expected at least 1")));
  auto model = make_model("{}");
  TransformerInputs inputs;
  inputs.prepend_embeds = at::randn({2, 1, 16});
  EXPECT_THROW(model->forward(at::ones({2, 6}, at::kLong), inputs), InputError);
  EXPECT_THROW(model->forward(at::ones({2, 1}, at::kLong)), InputError);
  XLGenerationInputs masked{at::ones({2, 6}, at::kLong), {}, {}};
  masked.net.mask = at::ones({2, 6}, at::kBool);
  EXPECT_THAT([&] { model->generate(masked, greedy(3)); },
              ThrowsMessage<InputError>(HasSubstr("has no meaning across segments")));
  const XLGenerationInputs empty{at::ones({2, 0}, at::kLong), {}, {}};
  EXPECT_THAT([&] { model->generate(empty, greedy(3)); },
              ThrowsMessage<InputError>(HasSubstr("start_tokens: expected at least one token")));
}

}  // namespace
}  // namespace x_transformers::xl_autoregressive_test
