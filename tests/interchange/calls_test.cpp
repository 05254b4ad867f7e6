// Calls whose inputs are out of range or do not go together, by name as they come from files.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "warnings.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/interchange/interchange.h"

namespace x_transformers {
namespace {

constexpr const char* kNet = R"({"type": "TransformerWrapper", "num_tokens": 17, "max_seq_len": 16,
    "embed_num_tokens": {"kind": 3}, "attn_layers": {"type": "Decoder", "dim": 16, "depth": 1, "heads": 2}})";
constexpr const char* kPlainNet =
    R"({"type": "TransformerWrapper", "num_tokens": 17, "max_seq_len": 16,
    "attn_layers": {"type": "Decoder", "dim": 16, "depth": 1, "heads": 2}})";

std::string call_refusal(const Json& config, const std::string& mode, const TensorMap& inputs,
                         const Json& kwargs = Json::object()) {
  try {
    const auto model = build_model(config);
    model->module().eval();
    run_model(*model, mode, inputs, kwargs, false);
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

Json wrapped(int64_t pad_value = 0) {
  return {
      {"type", "AutoregressiveWrapper"}, {"net", Json::parse(kPlainNet)}, {"pad_value", pad_value}};
}

at::Tensor with(at::Tensor ids, int64_t row, int64_t column, int64_t value) {
  ids[row][column] = value;
  return ids;
}

TEST(TokensOutOfRange, AreNamedWithTheirPlace) {
  const auto zeros = [] { return at::zeros({2, 4}, at::kLong); };
  const auto net = Json::parse(kNet);
  EXPECT_EQ(call_refusal(net, "forward", {{"x", zeros()}, {"embed_ids.kind", zeros()}}), "");
  EXPECT_EQ(
      call_refusal(net, "forward", {{"x", with(zeros(), 1, 2, 99)}, {"embed_ids.kind", zeros()}}),
      "x: 99 at position [1, 2], expected 0 to 16 (num_tokens is 17)");
  EXPECT_EQ(
      call_refusal(net, "forward", {{"x", with(zeros(), 0, 3, -1)}, {"embed_ids.kind", zeros()}}),
      "x: -1 at position [0, 3], expected 0 to 16 (num_tokens is 17)");
  EXPECT_EQ(
      call_refusal(net, "forward", {{"x", zeros()}, {"embed_ids.kind", with(zeros(), 1, 1, 3)}}),
      "embed_ids.kind: 3 at position [1, 1], expected 0 to 2 (embed_num_tokens is 3)");
  const auto pos = at::tensor({3, 2, 16, 1});
  EXPECT_EQ(
      call_refusal(net, "forward", {{"x", zeros()}, {"embed_ids.kind", zeros()}, {"pos", pos}}),
      "pos: 16 at position [2], expected 0 to 15 (max_seq_len is 16)");
  const TensorMap padded = {{"x", zeros()},
                            {"embed_ids.kind", zeros()},
                            {"pos", pos},
                            {"seq_start_pos", at::tensor({1, 2})}};
  EXPECT_EQ(call_refusal(net, "forward", padded), "");
}

TEST(TokensOutOfRange, IgnoredTargetsAreInRange) {
  const auto x = with(at::zeros({2, 4}, at::kLong), 1, 3, -100);
  EXPECT_EQ(call_refusal(wrapped(), "forward", {{"x", x}}), "");
  EXPECT_EQ(call_refusal(wrapped(), "forward", {{"x", with(x, 0, 1, 17)}}),
            "x: 17 at position [0, 1], expected 0 to 16 (net.num_tokens is 17)");
}

TEST(TokensOutOfRange, InPrompts) {
  const Json kwargs = {{"seq_len", 2}};
  const auto prompts = with(at::zeros({1, 3}, at::kLong), 0, 1, 300);
  EXPECT_EQ(call_refusal(wrapped(), "generate", {{"prompts", prompts}}, kwargs),
            "prompts: 300 at position [0, 1], expected 0 to 16 (net.num_tokens is 17)");
  const TensorMap list = {{"prompts.0", at::zeros({2}, at::kLong)}, {"prompts.1", prompts[0]}};
  EXPECT_EQ(call_refusal(wrapped(), "generate", list, kwargs),
            "prompts.1: 300 at position [1], expected 0 to 16 (net.num_tokens is 17)");
  const Json beams = {{"seq_len", 2}, {"method", "beam_search"}};
  EXPECT_EQ(call_refusal(wrapped(), "generate", {{"prompts", prompts}}, beams),
            "prompts: 300 at position [0, 1], expected 0 to 16 (net.num_tokens is 17)");
}

TEST(TokensOutOfRange, PaddingOfPrompts) {
  const TensorMap inputs = {{"prompts", at::zeros({2, 3}, at::kLong)},
                            {"prompt_lens", at::tensor({2, 3})}};
  const Json kwargs = {{"seq_len", 2}};
  EXPECT_EQ(call_refusal(wrapped(), "generate", inputs, kwargs), "");
}

TEST(TokensOutOfRange, PadValueOfAWrapper) {
  const TensorMap inputs = {{"x", at::tensor({1, -100, 2}, at::kLong).unsqueeze(0)}};
  EXPECT_EQ(call_refusal(wrapped(16), "forward", inputs), "");
  for (const int64_t wrong : {17, -1, -100}) {
    EXPECT_EQ(call_refusal(wrapped(wrong), "forward", inputs),
              fmt::format("config.pad_value: expected a token from 0 to 16, which the model reads "
                          "where the input has none, got {}",
                          wrong));
  }
}

TEST(TokensOutOfRange, PadValueThatIsNeverRead) {
  // Segments are read with the tokens that are no targets, if these have an embedding.
  Json config = wrapped(-1);
  config["type"] = "XLAutoregressiveWrapper";
  const TensorMap inputs = {{"x", at::tensor({1, 3, 2}, at::kLong).unsqueeze(0)}};
  EXPECT_EQ(call_refusal(config, "forward", inputs).substr(0, 17), "config.pad_value:");
  config["ignore_index"] = 3;
  EXPECT_EQ(call_refusal(config, "forward", inputs), "");
}

TEST(TokensOutOfRange, OnBothSidesOfXTransformer) {
  const auto config = Json::parse(
      R"({"type": "XTransformer", "dim": 16, "enc_num_tokens": 17, "enc_max_seq_len": 16,
      "enc_depth": 1, "enc_heads": 2, "dec_num_tokens": 19, "dec_max_seq_len": 16, "dec_depth": 1, "dec_heads": 2})");
  const auto zeros = at::zeros({1, 3}, at::kLong), eighteen = at::full({1, 3}, 18, at::kLong);
  EXPECT_EQ(call_refusal(config, "forward", {{"src", zeros}, {"tgt", eighteen}}), "");
  EXPECT_EQ(call_refusal(config, "forward", {{"src", eighteen}, {"tgt", zeros}}),
            "src: 18 at position [0, 0], expected 0 to 16 (num_tokens is 17)");
  EXPECT_EQ(call_refusal(config, "forward", {{"src", zeros}, {"tgt", eighteen + 1}}),
            "tgt: 19 at position [0, 0], expected 0 to 18 (num_tokens is 19)");
  const Json kwargs = {{"seq_len", 1}};
  EXPECT_EQ(
      call_refusal(config, "generate", {{"seq_in", eighteen}, {"seq_out_start", zeros}}, kwargs),
      "seq_in: 18 at position [0, 0], expected 0 to 16 (num_tokens is 17)");
  EXPECT_EQ(call_refusal(config, "generate", {{"seq_in", zeros}, {"seq_out_start", eighteen + 1}},
                         kwargs),
            "seq_out_start: 19 at position [0, 0], expected 0 to 18 (num_tokens is 19)");
}

TEST(Calls, TokensMayBeFloatsThatAreWhole) {
  const auto x = at::arange(8).view({2, 4});
  const auto same = [](const Json& config, const std::string& mode, const TensorMap& inputs,
                       const char* name, const Json& kwargs = Json::object()) {
    const auto model = build_model(config);
    model->module().eval();
    auto floats = inputs;
    floats[name] = floats[name].to(at::kFloat);
    EXPECT_TRUE(at::equal(run_model(*model, mode, inputs, kwargs, false).begin()->second,
                          run_model(*model, mode, floats, kwargs, false).begin()->second))
        << name;
    floats[name] = floats[name] + 0.25;
    EXPECT_EQ(
        call_refusal(config, mode, floats, kwargs),
        std::string(name) + (floats[name].dim() == 1
                                 ? ": expected ids, whole numbers, got 0.25 at position [0]"
                                 : ": expected ids, whole numbers, got 0.25 at position [0, 0]"));
    floats[name].fill_(std::numeric_limits<float>::quiet_NaN());
    EXPECT_NE(call_refusal(config, mode, floats, kwargs).find("whole numbers, got nan"),
              std::string::npos);
    floats[name].fill_(99);
    EXPECT_NE(call_refusal(config, mode, floats, kwargs).find("99 at position"), std::string::npos);
  };
  same(Json::parse(kPlainNet), "forward", {{"x", x}}, "x");
  same(wrapped(), "forward", {{"x", x}}, "x");
  const Json greedy = {{"seq_len", 2}, {"temperature", 0}};
  same(wrapped(), "generate", {{"prompts", x}}, "prompts", greedy);
  same(wrapped(), "generate", {{"prompts.0", x[0]}, {"prompts.1", x[1]}}, "prompts.0", greedy);
  const auto pair = Json::parse(R"({"type": "XTransformer", "dim": 16, "enc_num_tokens": 17,
      "enc_max_seq_len": 8, "enc_depth": 1, "enc_heads": 2, "dec_num_tokens": 17,
      "dec_max_seq_len": 8, "dec_depth": 1, "dec_heads": 2})");
  for (const char* name : {"src", "tgt"}) same(pair, "forward", {{"src", x}, {"tgt", x}}, name);
  for (const char* name : {"seq_in", "seq_out_start"})
    same(pair, "generate", {{"seq_in", x}, {"seq_out_start", x}}, name, greedy);
}

TEST(CallRefused, WeightsOfNoAmateur) {
  const TensorMap inputs = {{"prompts", at::zeros({2, 3}, at::kLong)},
                            {"amateur_model.1.token_emb.emb.weight", at::zeros({17, 16})}};
  const Json kwargs = {{"seq_len", 1}, {"amateur_model", {Json::parse(kPlainNet)}}};
  EXPECT_NE(call_refusal(wrapped(), "generate", inputs, kwargs)
                .find("kwargs.amateur_model: has no weights: expected them as "
                      "amateur_model.0.NAME among the model's weights or the inputs"),
            std::string::npos);
  EXPECT_NE(call_refusal(wrapped(), "generate", inputs, {{"seq_len", 1}})
                .find("unknown argument 'amateur_model.1.token_emb.emb.weight'"),
            std::string::npos);
}

TEST(CallRefused, TensorsOfOtherNames) {
  const auto ids = at::zeros({1, 4}, at::kLong);
  // It says what nothing has read, and what was asked for.
  EXPECT_THAT(call_refusal(wrapped(), "forward", {{"input_ids", ids}}),
              testing::AllOf(testing::StartsWith("inputs: 'x' is needed; given and not asked for: "
                                                 "'input_ids'; asked for so far: '"),
                             testing::HasSubstr("'mask'")));
  EXPECT_THAT(call_refusal(Json::parse(kPlainNet), "forward", {{"tokens", ids}, {"mask", ids}}),
              testing::AllOf(testing::StartsWith("x: is needed, unless there are prepend_embeds; "
                                                 "given and not asked for: 'tokens'; asked"),
                             testing::HasSubstr("'x'")));
  // Of a tensor that it knows, that would not be so.
  EXPECT_EQ(call_refusal(wrapped(), "forward", {{"mask", ids}}), "inputs: 'x' is needed");
}

TEST(CallRefused, NumbersThatAreNotFinite) {
  auto embeds = at::zeros({1, 2, 16});
  embeds[0][1][5] = INFINITY;
  EXPECT_EQ(call_refusal(wrapped(), "generate",
                         {{"prompts", at::zeros({1, 3}, at::kLong)}, {"prepend_embeds", embeds}},
                         {{"seq_len", 1}}),
            "prepend_embeds: expected finite numbers, got inf at position [0, 1, 5]");
}

TEST(CallRefused, ArgumentsOfGenerationThatSayNothing) {
  const TensorMap prompts = {{"prompts", at::zeros({2, 3}, at::kLong)}};
  EXPECT_EQ(call_refusal(wrapped(), "generate", prompts), "kwargs: 'seq_len' is needed");
  auto inputs = prompts;
  inputs["prompt_lens"] = at::tensor({3.0F, 1.5F});
  EXPECT_EQ(call_refusal(wrapped(), "generate", inputs, {{"seq_len", 1}}),
            "prompt_lens: expected integers, got Float");
  const TensorMap list = {{"prompts.0", at::zeros({3}, at::kLong)},
                          {"prompts.1", at::zeros({2}, at::kLong)}};
  EXPECT_EQ(call_refusal(wrapped(), "generate", list, {{"seq_len", 1}, {"prompt_lens", {3, 2}}}),
            "prompt_lens: a list of prompts has the lengths of its prompts");
}

TEST(CallRefused, AnArgumentThatIsGivenTwice) {
  const TensorMap inputs = {{"x", at::zeros({2, 4}, at::kLong)}};
  for (const auto& again : {Json(), Json(3)})
    EXPECT_EQ(call_refusal(Json::parse(kPlainNet), "forward", inputs, {{"x", again}}),
              "x: is given twice, among the inputs and among the kwargs");
}

TEST(CallRefused, WhatAPartAloneCannotBeCalledWith) {
  const Json gate{{"type", "GLU"}, {"dim_in", 8}, {"dim_out", 4}, {"activation", "ReLU"}};
  EXPECT_TRUE(call_refusal(gate, "forward", {{"x", at::zeros({2, 5})}})
                  .starts_with("GLU: cannot be called with these inputs: "));
  const Json tokens{{"type", "TokenEmbedding"}, {"dim", 4}, {"num_tokens", 7}};
  EXPECT_NE(call_refusal(tokens, "forward", {{"x", at::full({1, 2}, 7)}}).find("0 to 6"),
            std::string::npos);
  EXPECT_NE(call_refusal(tokens, "forward", {{"x", at::full({1, 2}, 0.5)}}).find("whole numbers"),
            std::string::npos);
}

TEST(CallRefused, XLOverSeveralStreams) {
  auto net = Json::parse(kPlainNet);
  net["max_mem_len"] = 4;
  net["attn_layers"]["num_residual_streams"] = 2;
  EXPECT_THROW(build_model({{"type", "XLAutoregressiveWrapper"}, {"net", net}}), InputError);
}

TEST(Calls, XLGeneratesWithAConditionOfTheWholeSequence) {
  auto net = Json::parse(kPlainNet);
  net["max_mem_len"] = 4;
  net["attn_layers"].update({{"use_adaptive_layernorm", true}, {"dim_condition", 5}});
  const auto model = build_model({{"type", "XLAutoregressiveWrapper"}, {"net", net}});
  model->module().eval();
  const TensorMap inputs = {{"start_tokens", at::zeros({2, 3}, at::kLong)},
                            {"condition", at::randn({2, 5})}};
  const auto results =
      run_model(*model, "generate", inputs, {{"seq_len", 7}, {"temperature", 0}}, false);
  EXPECT_EQ(results.begin()->second.sizes(), (at::IntArrayRef{2, 7}));
}

TEST(CallRefused, StepsOfRecyclingThatAreNone) {
  auto net = Json::parse(kPlainNet);
  net["recycling"] = true;
  const TensorMap inputs = {{"x", at::zeros({2, 4}, at::kLong)}};
  EXPECT_EQ(call_refusal(net, "forward", inputs), "recycle_steps: is needed outside training");
  for (const int64_t steps : {int64_t{0}, int64_t{-1}, int64_t{1'000'000'000}})
    EXPECT_NE(call_refusal(net, "forward", inputs, {{"recycle_steps", steps}})
                  .find("recycle_steps: expected"),
              std::string::npos)
        << steps;
}

TEST(CallRefused, EntropiesOfLogitsThatAreNotComputed) {
  const TensorMap inputs = {{"x", at::zeros({2, 4}, at::kLong)}};
  const Json kwargs = {{"return_embeddings", true}, {"return_logit_entropies", true}};
  EXPECT_NE(call_refusal(Json::parse(kPlainNet), "forward", inputs, kwargs)
                .find("return_logit_entropies: needs logits"),
            std::string::npos);
}

TEST(CallRefused, AdditionalKeysWithoutValues) {
  const TensorMap inputs = {{"x", at::zeros({2, 4}, at::kLong)},
                            {"self_attn_additional_kv.0.0", at::zeros({2, 2, 3, 64})}};
  EXPECT_NE(call_refusal(Json::parse(kPlainNet), "forward", inputs)
                .find("self_attn_additional_kv: needs both keys (self_attn_additional_kv.0.0) and "
                      "values (self_attn_additional_kv.0.1)"),
            std::string::npos);
}

/// The one tensor, or the first of several, that a call in evaluation mode gives.
at::Tensor result_of(Model& model, const TensorMap& inputs, const Json& kwargs = Json::object()) {
  model.module().eval();
  return run_model(model, "forward", inputs, kwargs, false).begin()->second;
}

TEST(Calls, OneNumberOfAttnBiasIsForAllKeys) {
  const auto model = build_model(Json::parse(
      R"({"type": "Attention", "dim": 16, "heads": 2, "dim_head": 8, "sigmoid": true, "num_mem_kv": 1})"));
  const auto x = at::randn({2, 5, 16}), bias = at::randn({2, 1, 1});
  EXPECT_TRUE(at::equal(result_of(*model, {{"x", x}, {"attn_bias", bias}}),
                        result_of(*model, {{"x", x}, {"attn_bias", bias.expand({2, 5, 6})}})));
}

TEST(Calls, OneEntryOfAttnMaskIsForAllKeys) {
  const auto model = build_model(Json::parse(
      R"({"type": "Attention", "dim": 16, "heads": 2, "dim_head": 8, "num_mem_kv": 1})"));
  const auto x = at::randn({2, 5, 16});
  const auto mask = (at::arange(5) != 2).unsqueeze(-1);
  EXPECT_TRUE(at::equal(result_of(*model, {{"x", x}, {"attn_mask", mask}}),
                        result_of(*model, {{"x", x}, {"attn_mask", mask.expand({5, 6})}})));
}

TEST(Calls, MasksOfMemoriesThatAreNotGivenHideNothing) {
  const auto model = build_model(Json::parse(kPlainNet));
  const auto x = at::arange(8).view({2, 4});
  const auto mask = at::zeros({2, 3}, at::kBool);
  EXPECT_TRUE(at::equal(result_of(*model, {{"x", x}, {"mem_masks.0", mask}}),
                        result_of(*model, {{"x", x}})));
}

TEST(Calls, AttendTakesOneKeyHeadWithoutItsDimension) {
  const auto model = build_model(Json::parse(R"({"type": "Attend", "heads": 4})"));
  const auto q = at::randn({2, 4, 5, 8}), k = at::randn({2, 9, 8}), v = at::randn({2, 9, 8});
  EXPECT_TRUE(
      at::equal(result_of(*model, {{"q", q}, {"k", k}, {"v", v}}),
                result_of(*model, {{"q", q}, {"k", k.unsqueeze(1)}, {"v", v.unsqueeze(1)}})));
}

TEST(Calls, CachesOfLayersThatRunTwice) {
  const auto model = build_model(Json::parse(kPlainNet));
  const auto key_values = [] { return at::randn({1, 2, 3, 64}); };
  const TensorMap inputs = {{"x", at::zeros({1, 4}, at::kLong)},
                            {"cache.attn_intermediates.0.cached_kv.0", key_values()},
                            {"cache.attn_intermediates.0.cached_kv.1", key_values()},
                            {"cache.attn_intermediates.1.cached_kv.0", key_values()},
                            {"cache.attn_intermediates.1.cached_kv.1", key_values()}};
  auto other = inputs;
  other["cache.attn_intermediates.1.cached_kv.1"] = key_values();
  const Json kwargs = {{"layers_execute_order", {0, 1, 0}}};
  EXPECT_FALSE(at::allclose(result_of(*model, inputs, kwargs), result_of(*model, other, kwargs)));
}

Json net_with(const std::string& options, const std::string& layer_options = "") {
  return Json::parse(R"({"type": "TransformerWrapper", "num_tokens": 17, "max_seq_len": 16, )" +
                     options + R"("attn_layers": {"type": "Decoder", "dim": 16, "depth": 2, )" +
                     layer_options + R"("heads": 2, "attn_dim_head": 8}})");
}

/// A cache of two attentions.
TensorMap cache_of(int64_t tokens, int64_t kv_heads = 2, int64_t dim_head = 8) {
  TensorMap cache;
  for (const char* place : {"0.cached_kv.0", "0.cached_kv.1", "1.cached_kv.0", "1.cached_kv.1"}) {
    cache[std::string("cache.attn_intermediates.") + place] =
        at::randn({2, kv_heads, tokens, dim_head});
  }
  return cache;
}

TensorMap join(TensorMap a, const TensorMap& b) {
  a.insert(b.begin(), b.end());
  return a;
}

TEST(CallRefused, CachesThatDoNotFitTheSequence) {
  const auto net = net_with("");
  const TensorMap x = {{"x", at::zeros({2, 6}, at::kLong)}};
  const auto refusal = [&](int64_t cached, const Json& kwargs) {
    return call_refusal(net, "forward", join(x, cache_of(cached)), kwargs);
  };
  EXPECT_EQ(refusal(5, Json::object()), "");
  EXPECT_EQ(refusal(3, {{"cache_age", 3}}), "");
  EXPECT_EQ(refusal(9, {{"cache_age", 6}, {"input_not_include_cache", true}}), "");
  EXPECT_EQ(refusal(9, {{"cache_age", 0}, {"input_not_include_cache", true}}), "");
  EXPECT_EQ(refusal(9, Json::object()),
            "cache: holds 9 tokens, which does not fit an x of 6, the last 1 (cache_age) of which "
            "are new: expected 1 or 10");
  EXPECT_NE(refusal(4, {{"input_not_include_cache", true}}).find("input_not_include_cache says"),
            std::string::npos);
  EXPECT_EQ(refusal(5, {{"cache_age", -1}}), "cache_age: expected 0 or more, got -1");
}

TEST(CallRefused, CachesThatDoNotFitTheModel) {
  const TensorMap x = {{"x", at::zeros({2, 6}, at::kLong)}};
  EXPECT_EQ(call_refusal(net_with(""), "forward", join(x, cache_of(5, 1))),
            "cache.attn_intermediates.0.cached_kv.0: expected floats [batch = 2, kv_heads = 2, "
            "tokens, dim_head = 8], got Float [2, 1, 5, 8]");
  EXPECT_NE(call_refusal(net_with(""), "forward", join(x, cache_of(5, 2, 7))).find("dim_head = 8"),
            std::string::npos);
  auto without_values = join(x, cache_of(5));
  without_values.erase("cache.attn_intermediates.1.cached_kv.1");
  EXPECT_EQ(call_refusal(net_with(""), "forward", without_values),
            "cache.attn_intermediates.1.cached_kv.1: is needed beside the keys");
  auto uneven = join(x, cache_of(5));
  for (const char* part : {"0", "1"})
    uneven[std::string("cache.attn_intermediates.1.cached_kv.") + part] = at::randn({2, 2, 4, 8});
  EXPECT_EQ(call_refusal(net_with(""), "forward", uneven),
            "cache: attention 1 has 4 tokens, one before it has 5");
  for (const char* option :
       {R"("use_cls_token": true, )", R"("average_pool_embed": true, )", R"("recycling": true, )",
        R"("num_memory_tokens": 2, "memory_tokens_interspersed_every": 3, )"}) {
    const auto cached = std::string(option).find("memory") == std::string::npos ? 5 : 7;
    EXPECT_NE(call_refusal(net_with(option), "forward", join(x, cache_of(cached)))
                  .find("needs the whole sequence"),
              std::string::npos)
        << option;
  }
  EXPECT_EQ(call_refusal(Json::parse(R"({"type": "Attention", "dim": 16, "heads": 2, "dim_head": 8,
                                         "causal": true})"),
                         "forward",
                         {{"x", at::randn({2, 1, 16})},
                          {"cache.cached_kv.0", at::randn({2, 3, 4, 8})},
                          {"cache.cached_kv.1", at::randn({2, 3, 4, 8})}}),
            "cache.cached_kv.0: expected floats [batch = 2, kv_heads = 2, tokens, dim_head = 8], "
            "got Float [2, 3, 4, 8]");
}

TEST(Calls, WhatIsGivenForEachTokenIsCutToTheNewOnes) {
  const auto config = net_with(R"("num_memory_tokens": 2, "emb_dim": 12, )",
                               R"("use_adaptive_rmsnorm": true, "rotary_pos_emb": true, )");
  const auto model = build_model(config);
  const int64_t tokens = 6, old = 4;
  // Two memory tokens and three prepended embeddings are cached as well.
  auto inputs = join(cache_of(old + 2 + 3), {{"x", at::arange(2 * tokens).view({2, tokens})},
                                             {"prepend_embeds", at::randn({2, 3, 12})},
                                             {"condition", at::randn({2, tokens, 16})},
                                             {"in_attn_cond", at::randn({2, tokens, 16})},
                                             {"self_attn_kv_residuals", at::randn({2, tokens, 16})},
                                             {"sum_embeds", at::randn({2, tokens, 12})}});
  const auto whole = result_of(*model, inputs, {{"cache_age", tokens - old}});
  EXPECT_EQ(whole.size(1), tokens - old);
  for (const char* name :
       {"x", "condition", "in_attn_cond", "self_attn_kv_residuals", "sum_embeds"})
    inputs[name] = inputs[name].narrow(1, old, tokens - old);
  const Json kwargs = {{"cache_age", tokens - old}, {"input_not_include_cache", true}};
  EXPECT_TRUE(at::equal(whole, result_of(*model, inputs, kwargs)));
}

TEST(CallRefused, TwoKindsOfResultFromImages) {
  const auto config = Json::parse(
      R"({"type": "ViTransformerWrapper", "image_size": 8, "patch_size": 4, "attn_layers":
      {"type": "Encoder", "dim": 16, "depth": 1, "heads": 2}})");
  const Json both = {{"return_embeddings", true}, {"return_logits_and_embeddings", true}};
  EXPECT_EQ(call_refusal(config, "forward", {{"img", at::zeros({1, 3, 8, 8})}}, both),
            "return_embeddings and return_logits_and_embeddings: at most one of them");
}

TEST(CallRefused, StartsOfSequencesBesidePrompts) {
  const TensorMap inputs = {{"prompts", at::zeros({2, 3}, at::kLong)},
                            {"seq_start_pos", at::tensor({0, 1})}};
  EXPECT_EQ(call_refusal(wrapped(), "generate", inputs, {{"seq_len", 1}}),
            "seq_start_pos: generation sets it; give prompt_lens");
}

TEST(Calls, TokensAreThoseOfTheEmbeddingThatIsThere) {
  auto model = Json::parse(wrapped().dump())["net"];
  model["num_tokens"] = 5;
  model["logits_dim"] = 9;
  model["token_emb"] = {{"type", "Embedding"}, {"num_embeddings", 9}, {"embedding_dim", 16}};
  EXPECT_EQ(call_refusal(model, "forward", {{"x", at::full({1, 2}, 8)}}, {}), "");
  EXPECT_EQ(call_refusal(model, "forward", {{"x", at::full({1, 2}, 9)}}, {}),
            "x: 9 at position [0, 0], expected 0 to 8 (token_emb.num_embeddings is 9)");
  model["logits_dim"] = 4;
  const Json loss = {{"type", "AutoregressiveWrapper"}, {"net", model}};
  EXPECT_EQ(call_refusal(loss, "forward", {{"x", at::tensor({8L, 3L}).unsqueeze(0)}}, {}), "");
  EXPECT_EQ(call_refusal(loss, "forward", {{"x", at::tensor({3L, 4L}).unsqueeze(0)}}, {}),
            "x[:, 1:]: 4 at position [0, 0], expected 0 to 3 (net.logits_dim is 4)");
}

TEST(Calls, MemoriesBeyondThoseOfTheFirstHaveNoPosition) {
  auto stack = Json::parse(wrapped().dump())["net"]["attn_layers"];
  stack["rotary_pos_emb"] = true;
  stack["depth"] = 2;
  EXPECT_EQ(
      call_refusal(stack, "forward",
                   {{"x", at::zeros({1, 2, 16})},
                    {"mems.0", at::zeros({1, 3, 16})},
                    {"mems.1", at::zeros({1, 5, 16})}},
                   {}),
      "mems: none may be longer than the first (3 tokens), as far as positions go back, got 5");
}

TEST(Calls, AnEosThatIsNoTokenEndsNothing) {
  const auto x = at::zeros({1, 2}, at::kLong);
  for (const int64_t eos : {-1, 17, 999}) {
    for (const char* method : {"generate", "beam_search"}) {
      const Json kwargs = {{"seq_len", 1}, {"eos_token", eos}, {"method", method}};
      const CollectedWarnings warnings;
      EXPECT_EQ(call_refusal(wrapped(), "generate", {{"prompts", x}}, kwargs), "");
      EXPECT_THAT(warnings.messages(),
                  testing::ElementsAre("eos_token: changes nothing, as " + std::to_string(eos) +
                                       " is no token from 0 to 16"));
    }
  }
  const CollectedWarnings warnings;
  EXPECT_EQ(call_refusal(wrapped(), "generate", {{"prompts", x}},
                         Json{{"seq_len", 1}, {"eos_token", 16}}),
            "");
  EXPECT_TRUE(warnings.messages().empty());
}

}  // namespace
}  // namespace x_transformers
