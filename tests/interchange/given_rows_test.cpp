// Masks, contexts, angles and caches in the shapes that Python's callers give them: each the same
// as the plain shape, or refused by name.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/interchange/interchange.h"

namespace x_transformers::given_rows_test {
namespace {

const Json kStack =
    Json::parse(R"({"type": "Decoder", "dim": 16, "depth": 2, "heads": 2, "attn_dim_head": 8})");

Json net(const Json& stack = Json::object()) {
  Json config = {{"type", "TransformerWrapper"}, {"num_tokens", 17}, {"max_seq_len", 16}};
  config["attn_layers"] = kStack;
  config["attn_layers"].update(stack);
  return config;
}

Json generator(const Json& stack = Json::object()) {
  return {{"type", "AutoregressiveWrapper"}, {"net", net(stack)}};
}

TensorMap results(Model& model, const std::string& mode, const TensorMap& inputs,
                  const Json& kwargs = Json::object()) {
  model.module().eval();
  return run_model(model, mode, inputs, kwargs, false);
}

at::Tensor out(Model& model, const TensorMap& inputs, const Json& kwargs = Json::object()) {
  return results(model, "forward", inputs, kwargs).begin()->second;
}

std::string refusal(const Json& config, const std::string& mode, const TensorMap& inputs,
                    const Json& kwargs = Json::object()) {
  const auto model = build_model(config);
  try {
    results(*model, mode, inputs, kwargs);
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

at::Tensor tokens(int64_t rows, int64_t length) {
  return at::arange(rows * length).remainder(17).view({rows, length});
}

TEST(GivenCache, MaskedPrependedEmbeddingsStayMasked) {
  const auto model = build_model(net());
  constexpr int64_t kPrepended = 3, kOld = 4;
  TensorMap inputs = {{"x", tokens(1, kOld + 1)},
                      {"prepend_embeds", at::randn({1, kPrepended, 16})},
                      {"prepend_mask", at::tensor({1, 0, 1}).to(at::kBool).unsqueeze(0)}};
  for (const char* place : {"0.cached_kv.0", "0.cached_kv.1", "1.cached_kv.0", "1.cached_kv.1"}) {
    inputs[std::string("cache.attn_intermediates.") + place] =
        at::randn({1, 2, kPrepended + kOld, 8});
  }
  const auto changed_at = [&](int64_t key) {
    auto other = inputs;
    auto& keys = other["cache.attn_intermediates.0.cached_kv.0"];
    keys = keys.clone();
    keys.select(2, key).add_(1);
    return other;
  };
  const auto expected = out(*model, inputs);
  EXPECT_TRUE(out(*model, changed_at(1)).equal(expected));
  EXPECT_FALSE(out(*model, changed_at(0)).equal(expected));
  EXPECT_FALSE(out(*model, changed_at(kPrepended)).equal(expected));
}

TEST(SeqStartPos, GoesWithAMaskOfMemoriesToo) {
  const auto model = build_model(kStack);
  constexpr int64_t kMemory = 3, kTokens = 5;
  TensorMap inputs = {{"x", at::randn({1, kTokens, 16})},
                      {"mems.0", at::randn({1, kMemory, 16})},
                      {"mems.1", at::randn({1, kMemory, 16})},
                      {"self_attn_kv_mask", at::arange(kMemory + kTokens).ne(1).unsqueeze(0)},
                      {"seq_start_pos", at::tensor({2})}};
  const auto last = [&](const TensorMap& given) { return out(*model, given).select(1, -1); };
  const auto expected = last(inputs);
  auto other = inputs;
  other["x"] = inputs["x"].clone();
  other["x"].narrow(1, 0, 2).add_(1);  // before the start
  EXPECT_TRUE(last(other).equal(expected));
  for (const auto& [memory, is_seen] : {std::pair{0, true}, {1, false}}) {
    other = inputs;
    other["mems.0"] = inputs["mems.0"].clone();
    other["mems.0"].select(1, memory).mul_(at::randn({16}));
    EXPECT_EQ(!last(other).equal(expected), is_seen) << memory;
  }
}

TEST(Generation, AMaskOfOneEntryIsForAllKeys) {
  const auto model = build_model(generator());
  const Json kwargs = {{"seq_len", 5}, {"temperature", 0}};
  const TensorMap prompts = {{"prompts", tokens(2, 3)}};
  auto masked = prompts;
  masked["self_attn_kv_mask"] = at::ones({2, 1}, at::kBool);
  EXPECT_TRUE(results(*model, "generate", masked, kwargs)
                  .begin()
                  ->second.equal(results(*model, "generate", prompts, kwargs).begin()->second));
}

TEST(Generation, OneContextIsForAllBeams) {
  // The hybrid module of cross attention reads what the queries are made of, which has all rows.
  const auto model = build_model(
      generator({{"cross_attend", true},
                 {"attn_hybrid_module", {{"type", "MinGRU"}, {"dim", 16}, {"dim_out", 16}}},
                 {"attn_hybrid_fold_axial_dim", 1}}));
  const Json kwargs = {{"seq_len", 4}, {"method", "beam_search"}, {"beams", 3}};
  for (const int64_t rows : {1, 2}) {
    TensorMap one = {{"prompts", tokens(rows, 3)}, {"context", at::randn({1, 6, 16})}};
    const auto texts = results(*model, "generate", one, kwargs).begin()->second;
    auto uncached = kwargs;
    uncached["cache_kv"] = false;
    EXPECT_TRUE(results(*model, "generate", one, uncached).begin()->second.equal(texts)) << rows;
    one["context"] = one["context"].expand({rows, -1, -1});
    EXPECT_TRUE(results(*model, "generate", one, kwargs).begin()->second.equal(texts)) << rows;
  }
}

TEST(Generation, OneRowOfEveryInputIsForAllBeams) {
  const auto model = build_model(generator({{"cross_attend", true},
                                            {"rotary_pos_emb", true},
                                            {"attn_num_mem_kv", 1},
                                            {"cross_attn_num_mem_kv", 2}}));
  const Json kwargs = {{"seq_len", 4}, {"method", "beam_search"}, {"beams", 3}};
  const TensorMap one = {{"context", at::randn({1, 6, 16})},
                         {"context_mask", at::arange(6).lt(5).unsqueeze(0)},
                         {"context_pos", at::arange(6).mul(2).unsqueeze(0)},
                         {"prepend_embeds", at::randn({1, 2, 16})},
                         {"mems.0", at::randn({1, 3, 16})},
                         {"mems.1", at::randn({1, 3, 16})},
                         {"mem_masks.0", at::arange(3).ne(1).unsqueeze(0)}};
  for (const int64_t rows : {1, 2}) {
    TensorMap all;
    for (const auto& [name, t] : one) {
      auto sizes = t.sizes().vec();
      sizes[0] = rows;
      all[name] = t.expand(sizes).contiguous();
    }
    at::Tensor expected;
    for (auto inputs : {all, one}) {
      for (const bool cache_kv : {true, false}) {
        inputs["prompts"] = tokens(rows, 3);
        auto asked = kwargs;
        asked["cache_kv"] = cache_kv;
        const auto texts = results(*model, "generate", inputs, asked).begin()->second;
        if (!expected.defined()) expected = texts;
        EXPECT_TRUE(texts.equal(expected)) << rows << cache_kv;
      }
    }
  }
}

TEST(Generation, MemoriesOfTwoLengthsAreDecodedUncached) {
  const auto model = build_model(generator());
  const Json kwargs = {{"seq_len", 4}, {"temperature", 0}};
  const TensorMap inputs = {{"prompts", tokens(2, 3)},
                            {"mems.0", at::randn({2, 5, 16})},
                            {"mems.1", at::randn({2, 3, 16})}};
  auto uncached = kwargs;
  uncached["cache_kv"] = false;
  EXPECT_TRUE(results(*model, "generate", inputs, kwargs)
                  .begin()
                  ->second.equal(results(*model, "generate", inputs, uncached).begin()->second));
}

TEST(Generation, BeamsAndScoresHaveTheShapeOfThePrompts) {
  const auto model = build_model(generator());
  const std::vector<std::vector<int64_t>> shapes = {{4}, {2, 4}, {2, 3, 4}};
  for (const auto& shape : shapes) {
    const auto prompts = at::ones(shape, at::kLong);
    const auto found = results(*model, "generate", {{"prompts", prompts}},
                               {{"method", "beam_search"},
                                {"seq_len", 2},
                                {"beams", 3},
                                {"return_beams_and_scores", true}});
    auto expected = shape;
    expected.back() = 2;
    expected.insert(expected.begin(), 3);
    EXPECT_EQ(found.at("out.0").sizes(), at::IntArrayRef(expected));
    expected.pop_back();
    EXPECT_EQ(found.at("out.1").sizes(), at::IntArrayRef(expected));
  }
}

TEST(Generation, ATokenWithoutAnEmbeddingIsNamed) {
  auto config = generator();
  config["net"]["logits_dim"] = 40;
  const auto message = refusal(config, "generate", {{"prompts", tokens(2, 3)}},
                               {{"seq_len", 30}, {"temperature", 1}});
  EXPECT_NE(message.find("num_tokens: expected embeddings of all tokens that the model writes"),
            std::string::npos)
      << message;
}

TEST(Mems, OfTwoLengthsGoWithNothingThatHasAllKeys) {
  const auto refused = [](const Json& stack, const std::string& name, const at::Tensor& given) {
    auto config = kStack;
    config.update(stack);
    TensorMap inputs = {{"x", at::randn({2, 5, 16})},
                        {"mems.0", at::randn({2, 4, 16})},
                        {"mems.1", at::randn({2, 3, 16})}};
    if (given.defined()) inputs[name] = given;
    const auto message = refusal(config, "forward", inputs);
    EXPECT_EQ(message.find(name + ": has the keys of one layer"), 0U) << message;
  };
  refused(Json::object(), "self_attn_kv_mask", at::ones({2, 9}, at::kBool));
  refused(Json::object(), "attn_mask", at::ones({5, 9}, at::kBool));
  refused(Json::object(), "attn_bias", at::ones({5, 9}));
  refused({{"residual_attn", true}}, "residual_attn", {});
  refused({{"add_value_residual", true}, {"learned_value_residual_mix", false}},
          "add_value_residual", {});
}

TEST(Generation, ActivationsThatSeeOtherTokensAreNotCached) {
  const Json softmax = {{"type", "Softmax"}, {"dim", 1}};
  const auto model = build_model(generator({{"ff_custom_activation", softmax}}));
  const TensorMap prompts = {{"prompts", tokens(2, 3)}};
  const auto text = [&](bool cache_kv) {
    return results(*model, "generate", prompts,
                   {{"seq_len", 6}, {"temperature", 0}, {"cache_kv", cache_kv}})
        .begin()
        ->second;
  };
  EXPECT_TRUE(text(true).equal(text(false)));
}

TEST(OneRow, OfALossOrPromptStandsBesideNoOthers) {
  const auto config = generator({{"cross_attend", true}});
  const auto context = at::randn({2, 6, 16});
  EXPECT_EQ(refusal(config, "forward", {{"x", tokens(1, 5)}, {"context", context}}),
            "x: batch = 1, but what is given beside it has 2 batch entries");
  EXPECT_EQ(refusal(config, "generate", {{"prompts", tokens(1, 5)}, {"context", context}},
                    {{"seq_len", 2}, {"cache_kv", false}}),
            "prompts: batch = 1, but what is given beside them has 2 batch entries");
  EXPECT_NE(refusal(config, "generate", {{"prompts", tokens(1, 5)}, {"context", context}},
                    {{"seq_len", 2}}),
            "");
}

TEST(OneRow, OfXStandsBesideAllInputs) {
  auto cross = kStack;
  cross.update({{"cross_attend", true}, {"rotary_pos_emb", true}, {"cross_attn_num_mem_kv", 2}});
  const auto attention =
      Json::parse(R"({"type": "Attention", "dim": 16, "heads": 2, "dim_head": 8})");
  const auto context = at::randn({1, 6, 16});
  const std::vector<std::pair<Json, TensorMap>> calls = {
      {kStack,
       {{"additional_kv_mask", at::arange(6).ne(2).view({2, 3})},
        {"self_attn_additional_kv.0.0", at::randn({2, 2, 3, 8})},
        {"self_attn_additional_kv.0.1", at::randn({2, 2, 3, 8})}}},
      {kStack, {{"mems.0", at::randn({2, 3, 16})}}},
      {cross, {{"context", context}, {"pos", at::arange(10).view({2, 5})}}},
      {cross, {{"context", context}, {"context_pos", at::arange(12).view({2, 6})}}},
      {attention,
       {{"context", context},
        {"additional_key_values.0", at::randn({2, 2, 3, 8})},
        {"additional_key_values.1", at::randn({2, 2, 3, 8})}}}};
  for (const auto& [config, inputs] : calls) {
    const auto model = build_model(config);
    auto one = inputs, two = inputs;
    one["x"] = at::randn({1, 5, 16});
    two["x"] = one["x"].expand({2, -1, -1}).contiguous();
    const auto expected = out(*model, two);
    ASSERT_EQ(expected.size(0), 2);
    EXPECT_FALSE(expected[0].equal(expected[1])) << config;
    EXPECT_TRUE(out(*model, one).equal(expected)) << config;
  }
}

TEST(OneRow, OfXStaysOneBesideWhatNoLayerReads) {
  const auto mem = [](int64_t rows) { return at::randn({rows, 3, 16}); };
  auto gated = kStack, no_layers = kStack, feeds_forward = kStack;
  feeds_forward.erase("depth");
  feeds_forward["custom_layers"] = {"f"};
  gated["attn_data_dependent_alibi"] = true;
  no_layers["depth"] = 0;
  const auto attention =
      Json::parse(R"({"type": "Attention", "dim": 16, "heads": 2, "dim_head": 8})");
  const std::vector<std::pair<Json, TensorMap>> calls = {
      {kStack, {{"context_mask", at::ones({2, 4}, at::kBool)}}},
      {kStack, {{"pos", at::arange(10).view({2, 5})}}},
      {kStack, {{"additional_kv_mask", at::ones({2, 3}, at::kBool)}}},
      {kStack, {{"mem_masks.0", at::ones({2, 3}, at::kBool)}}},
      {kStack, {{"mems.0", mem(1)}, {"mems.1", mem(1)}, {"mems.2", mem(2)}}},
      {gated, {{"attn_bias", at::randn({2, 2, 5, 5})}}},
      {no_layers, {{"in_attn_cond", at::randn({2, 16})}, {"mask", at::ones({2, 5}, at::kBool)}}},
      {feeds_forward, {{"rotary_pos_emb.0", at::randn({2, 5, 4})}}},
      {attention, {{"pos", at::arange(10).view({2, 5})}}},
      {attention, {{"mem_mask", at::ones({2, 3}, at::kBool)}}},
      {attention, {{"additional_key_value_mask", at::ones({2, 3}, at::kBool)}}}};
  for (const auto& [config, inputs] : calls) {
    const auto model = build_model(config);
    auto given = inputs;
    given["x"] = at::randn({1, 5, 16});
    EXPECT_EQ(out(*model, given).size(0), 1) << config << inputs.begin()->first;
  }
}

TEST(OneRow, OfPackedSequencesIsForAllAndSeveralRepeatX) {
  auto packed = kStack;
  packed["attn_flash_pack_seq"] = true;
  const auto model = build_model(packed);
  const auto ends = at::tensor({0, 2, 5, 0, 4, 5}).to(at::kInt).view({2, 3});
  const auto given = [&](const at::Tensor& x, const at::Tensor& boundaries) {
    return TensorMap{{"x", x},
                     {"flash_pack_seq_kwargs.cu_seqlens_q", boundaries},
                     {"flash_pack_seq_kwargs.cu_seqlens_k", boundaries}};
  };
  const auto x = at::randn({1, 5, 16}), two = x.expand({2, -1, -1}).contiguous();
  EXPECT_TRUE(out(*model, given(x, ends)).equal(out(*model, given(two, ends))));
  EXPECT_NE(refusal(packed, "forward", given(at::randn({3, 5, 16}), ends))
                .find("flash_pack_seq_kwargs: expected boundaries and slopes of one row or batch"),
            std::string::npos);
}

TEST(OneRow, OfContextOrItsMaskIsForAllInTraining) {
  auto cross = kStack;
  cross.update({{"cross_attend", true}, {"cross_attn_tokens_dropout", 0.5}});
  const auto model = build_model(cross);
  model->module().train();
  const auto x = at::randn({2, 5, 16});
  for (const auto& [context, mask] : {std::pair<int64_t, int64_t>{1, 2}, {2, 1}}) {
    const auto result = run_model(*model, "forward",
                                  {{"x", x},
                                   {"context", at::randn({context, 6, 16})},
                                   {"context_mask", at::ones({mask, 6}, at::kBool)}},
                                  Json::object(), false);
    EXPECT_EQ(result.begin()->second.size(0), 2);
  }
}

TEST(OneRow, OfValuesTakesAResidualOfSeveral) {
  const auto attention =
      build_model(Json::parse(R"({"type": "Attention", "dim": 16, "heads": 2, "dim_head": 8})"));
  TensorMap inputs = {{"x", at::randn({2, 5, 16})},
                      {"context", at::randn({1, 4, 16})},
                      {"value_residual", at::randn({2, 2, 4, 8})}};
  const auto expected = out(*attention, inputs);
  inputs["context"] = inputs["context"].expand({2, -1, -1}).contiguous();
  EXPECT_TRUE(at::allclose(out(*attention, inputs), expected, 1e-5, 1e-6));
}

TEST(OneRow, OfAPooledContextTakesAMaskOfSeveral) {
  for (const int64_t depth : {1, 2}) {
    const auto pool = build_model({{"type", "AttentionPool"}, {"dim", 16}, {"depth", depth}});
    TensorMap inputs = {{"context", at::randn({1, 5, 16})},
                        {"mask", at::arange(10).ne(3).view({2, 5})}};
    const auto expected = out(*pool, inputs);
    EXPECT_EQ(expected.size(0), 2);
    inputs["context"] = inputs["context"].expand({2, -1, -1}).contiguous();
    EXPECT_TRUE(at::allclose(out(*pool, inputs), expected, 1e-5, 1e-6));
  }
}

TEST(Generation, MemoriesOfSomeLayersAreDecodedUncached) {
  for (const Json& stack : {Json{{"alibi_pos_bias", true}}, Json{{"rel_pos_bias", true}},
                            Json{{"dynamic_pos_bias", true}},
                            Json{{"alibi_pos_bias", true}, {"weight_tie_layers", true}}}) {
    const auto model = build_model(generator(stack));
    const Json kwargs = {{"seq_len", 4}, {"temperature", 0}};
    const TensorMap inputs = {{"prompts", tokens(2, 3)}, {"mems.0", at::randn({2, 3, 16})}};
    auto uncached = kwargs;
    uncached["cache_kv"] = false;
    EXPECT_TRUE(results(*model, "generate", inputs, kwargs)
                    .begin()
                    ->second.equal(results(*model, "generate", inputs, uncached).begin()->second))
        << stack;
  }
}

TEST(Tokens, MayBeBools) {
  const auto model = build_model(net());
  const auto x = at::tensor({0, 1, 1, 0}).view({2, 2});
  EXPECT_TRUE(out(*model, {{"x", x.to(at::kBool)}}).equal(out(*model, {{"x", x}})));
  const auto writer = build_model(generator());
  const Json kwargs = {{"seq_len", 3}, {"temperature", 0}};
  const auto list = [&](at::ScalarType type) {
    const TensorMap prompts = {{"prompts.0", x[0].to(type)}, {"prompts.1", at::ones({3}).to(type)}};
    return results(*writer, "generate", prompts, kwargs).begin()->second;
  };
  EXPECT_TRUE(list(at::kBool).equal(list(at::kLong)));
}

TEST(Attention, HalfAPairIsNamed) {
  const auto attention =
      Json::parse(R"({"type": "Attention", "dim": 16, "heads": 2, "dim_head": 8})");
  const auto expect_other_half = [&](const std::string& pair, const at::Tensor& half) {
    for (const char* given : {".0", ".1"}) {
      const auto message =
          refusal(attention, "forward", {{"x", at::randn({1, 4, 16})}, {pair + given, half}});
      EXPECT_NE(message.find(pair), std::string::npos) << pair << given << ": " << message;
    }
  };
  expect_other_half("additional_key_values", at::randn({1, 2, 3, 8}));
  expect_other_half("polar_pos_emb", at::randn({1, 4, 8}));
}

TEST(Attention, AnglesMayHaveADimensionOfHeads) {
  const auto model = build_model(kStack);
  const auto x = at::randn({2, 5, 16}), angles = at::randn({1, 5, 4});
  EXPECT_TRUE(out(*model, {{"x", x}, {"rotary_pos_emb.0", angles.unsqueeze(1)}})
                  .equal(out(*model, {{"x", x}, {"rotary_pos_emb.0", angles}})));
}

TEST(Attention, ThreeViewsGoOnFromACache) {
  const auto model = build_model(Json::parse(
      R"({"type": "Attention", "dim": 16, "heads": 2, "dim_head": 8, "causal": true,
          "qkv_receive_diff_residuals": true})"));
  constexpr int64_t kTokens = 5;
  const auto x = at::randn({3, 2, kTokens, 16});
  const auto whole = out(*model, {{"x", x}});
  const auto first = results(*model, "forward", {{"x", x.narrow(2, 0, kTokens - 1)}},
                             {{"return_intermediates", true}});
  const auto last = out(*model, {{"x", x.narrow(2, kTokens - 1, 1)},
                                 {"cache.cached_kv.0", first.at("out.1.cached_kv.0")},
                                 {"cache.cached_kv.1", first.at("out.1.cached_kv.1")}});
  EXPECT_TRUE(at::allclose(last, whole.narrow(1, kTokens - 1, 1), 1e-5, 1e-6));
}

}  // namespace
}  // namespace x_transformers::given_rows_test
