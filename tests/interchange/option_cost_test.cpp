#include "x_transformers/interchange/option_cost.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "warnings.h"
#include "x_transformers/core/json.h"

namespace x_transformers {
namespace {

using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

constexpr int64_t kDim = 16, kDepth = 2, kTokens = 12, kVocabulary = 20;

/// A language model whose stack has these options too.
Json model(const std::string& layers = "{}", const std::string& net = "{}") {
  auto stack = Json::parse(R"({"type": "Decoder", "dim": 16, "depth": 2, "heads": 4,
                               "attn_dim_head": 4})");
  stack.update(Json::parse(layers));
  auto config = Json{{"type", "TransformerWrapper"},
                     {"num_tokens", kVocabulary},
                     {"max_seq_len", kTokens},
                     {"attn_layers", stack}};
  config.update(Json::parse(net));
  return {{"type", "AutoregressiveWrapper"}, {"net", config}};
}

std::map<std::string, OptionCost> costs_of(const Json& config) {
  std::map<std::string, OptionCost> costs;
  for (const auto& cost : option_costs(config, model_cost(config, "config")))
    costs[cost.name] = cost;
  costs.erase("attn_dim_head");
  return costs;
}

TEST(OptionCosts, DefaultsAndSizesHaveNone) {
  EXPECT_THAT(costs_of(model(R"({"ff_mult": 4.0, "rotary_pos_emb": false, "attn_kv_heads": null})",
                             R"({"emb_dropout": 0})")),
              IsEmpty());
}

TEST(OptionCosts, OnlyTheModelItselfIsWarnedOf) {
  // Without its module the mix means nothing, but nobody has such a model.
  const auto hybrid = model(R"({"attn_hybrid_fold_axial_dim": 1, "attn_hybrid_learned_mix": true,
      "attn_hybrid_module": {"type": "MinGRU", "dim": 16, "dim_out": 16}})");
  const CollectedWarnings none;
  costs_of(hybrid);
  EXPECT_THAT(none.messages(), IsEmpty());
  const CollectedWarnings own;
  costs_of(model(R"({"attn_hybrid_learned_mix": true, "ff_glu": true})"));
  // Each layer warns; a user is told once.
  EXPECT_THAT(own.messages(), AllOf(Not(IsEmpty()), Each(HasSubstr("attn_hybrid_learned_mix"))));
}

TEST(OptionCosts, AreDifferencesOfTwoModels) {
  const auto costs =
      costs_of(model(R"({"attn_kv_heads": 2, "ff_glu": true})", R"({"tie_embedding": true})"));
  ASSERT_EQ(costs.size(), 3);
  // Half of the features of keys and of values.
  const auto& kv_heads = costs.at("attn_kv_heads");
  EXPECT_EQ(kv_heads.parameters, -kDepth * kDim * kDim);
  EXPECT_EQ(kv_heads.flops, 2.0 * static_cast<double>(kv_heads.parameters));
  EXPECT_EQ(kv_heads.value, "2");
  EXPECT_EQ(costs.at("tie_embedding").parameters, -kVocabulary * kDim);
  EXPECT_EQ(costs.at("tie_embedding").flops, 0);
  // The gate's projection with its bias.
  EXPECT_EQ(costs.at("ff_glu").parameters, kDepth * (kDim + 1) * 4 * kDim);
  EXPECT_GT(costs.at("ff_glu").flops, 2 * kDepth * 4 * kDim * kDim);
}

TEST(OptionCosts, BothSpellingsAreOneOption) {
  const auto flat = costs_of(model(R"({"attn_kv_heads": 2, "ff_glu": true})"));
  const auto nested = costs_of(model(R"({"attn": {"kv_heads": 2}, "ff": {"glu": true}})"));
  ASSERT_EQ(nested.size(), flat.size());
  for (const auto& [name, cost] : flat) {
    EXPECT_EQ(nested.at(name).parameters, cost.parameters) << name;
    EXPECT_EQ(nested.at(name).flops, cost.flops) << name;
  }
}

TEST(OptionCosts, OptionsWithoutParametersHaveWork) {
  const auto costs = costs_of(model(R"({"rotary_pos_emb": true, "attn_softclamp_logits": true,
                                        "shift_tokens": 1})"));
  // Rotary embeddings are in place of learned absolute ones.
  EXPECT_EQ(costs.at("rotary_pos_emb").parameters, -kTokens * kDim);
  EXPECT_GT(costs.at("rotary_pos_emb").flops, 0);
  EXPECT_EQ(costs.at("attn_softclamp_logits").parameters, 0);
  // Three for each score, and two (scale, mask) that fused attention does within its one.
  EXPECT_EQ(costs.at("attn_softclamp_logits").flops, kDepth * (3 + 2) * 4 * kTokens);
  EXPECT_EQ(costs.at("shift_tokens").flops, 0);  // moves features
}

TEST(OptionCosts, SayWhichEngineTheyBring) {
  const auto costs = costs_of(model(R"({"attn_sparse_topk": 2})"));
  EXPECT_EQ(costs.at("attn_sparse_topk").engine, "reference");
  EXPECT_EQ(costs.at("attn_sparse_topk").engine_without, "flash_cpu");
}

TEST(OptionCosts, WhatNeedsAnOptionGoesWithIt) {
  const auto costs = costs_of(model(R"({"attn_selective": true, "num_residual_streams": 2,
                                        "qkv_receive_diff_residuals": true})"));
  EXPECT_THAT(costs.at("num_residual_streams").with, ElementsAre("qkv_receive_diff_residuals"));
  EXPECT_EQ(costs.at("num_residual_streams").reason, std::nullopt);
  EXPECT_THAT(costs.at("attn_selective").with, IsEmpty());
}

TEST(OptionCosts, EnginesAreThoseOfTrainingWithAllThatTheStackAdds) {
  const auto engine_of = [](const char* layers) {
    return model_cost(model(layers), "config").attentions.back().engine;
  };
  EXPECT_EQ(engine_of("{}"), "flash_cpu");
  EXPECT_EQ(engine_of(R"({"attn_dropout": 0.1})"), "flash_cpu");
  EXPECT_EQ(engine_of(R"({"rel_pos_bias": true})"), "flash_cpu");
  EXPECT_EQ(engine_of(R"({"alibi_pos_bias": true})"), "flash_cpu");
  EXPECT_EQ(engine_of(R"({"residual_attn": true})"), "reference");
  for (const char* layers : {R"({"attn_head_learned_sink": true})", R"({"attn_sigmoid": true})",
                             R"({"attn_hard": true})", R"({"attn_gumbel_softmax": true})",
                             R"({"attn_l2_distance": true})",
                             R"({"attn_cog_signed": true, "attn_head_learned_sink": true})"}) {
    EXPECT_EQ(engine_of(layers), "flash_cpu") << layers;
  }
}

TEST(OptionCosts, EnginesOfOtherAttentionsAreNotCompared) {
  const auto costs = costs_of(model(R"({"macaron": true, "attn_sparse_topk": 2})"));
  EXPECT_EQ(costs.at("macaron").engine, "");
  EXPECT_EQ(costs.at("attn_sparse_topk").engine, "reference");
}

TEST(OptionCosts, OfAnEncoderAndADecoder) {
  const auto config = Json::parse(R"({"type": "XTransformer", "dim": 16, "tie_token_emb": true,
      "enc": {"num_tokens": 20, "depth": 1, "heads": 4, "max_seq_len": 6, "ff_glu": true},
      "dec_num_tokens": 20, "dec_depth": 1, "dec_heads": 4, "dec_max_seq_len": 12,
      "dec_attn_kv_heads": 2})");
  const auto costs = costs_of(config);
  EXPECT_EQ(costs.at("tie_token_emb").parameters, -20 * 16);
  EXPECT_GT(costs.at("enc_ff_glu").parameters, 0);
  EXPECT_LT(costs.at("dec_attn_kv_heads").parameters, 0);
  EXPECT_EQ(costs.size(), 3);
}

}  // namespace
}  // namespace x_transformers
