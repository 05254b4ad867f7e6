#include "x_transformers/interchange/model_cost.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "x_transformers/core/json.h"
#include "x_transformers/interchange/interchange.h"
#include "x_transformers/interchange/option_cost.h"

namespace x_transformers {
namespace {

ModelCost cost_of(const char* config, std::optional<int64_t> seq = std::nullopt) {
  return model_cost(Json::parse(config), "config", seq);
}

bool is_of_hybrid_module(const std::optional<Notice>& notice) {
  return notice && notice->about == at(OptionPath("hybrid_module")) && !notice->expected.empty();
}

TEST(ModelCost, FeedForward) {
  const auto cost = cost_of(R"({"type": "FeedForward", "dim": 8, "no_bias": true})");
  EXPECT_EQ(cost.parameters, 2 * 8 * 32);
  EXPECT_EQ(cost.flops.products, 2 * cost.parameters);
  EXPECT_EQ(cost.flops.elements, 32);  // GELU
}

TEST(ModelCost, AttentionIsOfAllPairs) {
  const auto cost = cost_of(R"({"type": "Attention", "dim": 16, "heads": 2, "dim_head": 8})", 32);
  EXPECT_EQ(cost.tokens, 32);
  EXPECT_EQ(cost.parameters, 4 * 16 * 16);
  EXPECT_EQ(cost.flops.products, 2 * 4 * 16 * 16 + 2 * 32 * 2 * (8 + 8));
  const auto causal =
      cost_of(R"({"type": "Attention", "dim": 16, "heads": 2, "dim_head": 8, "causal": true})", 32);
  EXPECT_EQ(causal.flops.total(), cost.flops.total());
}

TEST(ModelCost, SaysWhatEachTokenSees) {
  const auto prefix = cost_of(R"({"type": "TransformerWrapper", "num_tokens": 9, "max_seq_len": 9,
      "num_memory_tokens": 3, "max_mem_len": 7, "attn_layers": {"type": "PrefixDecoder", "dim": 8,
      "depth": 1, "cross_attend": true, "attn_max_attend_past": 5}})");
  ASSERT_EQ(prefix.attentions.size(), 2);
  EXPECT_EQ(prefix.attentions.at(0).sight,
            text("causal, but for a prefix that all see ({}), 5 tokens back at most",
                 option("prefix_attn_len")));
  const auto of_context = Notice{{}, prefix.attentions.at(1).sight}.line();
  EXPECT_TRUE(of_context.starts_with("not causal")) << of_context;  // of the context
  EXPECT_THAT(prefix.memories,
              testing::ElementsAre(
                  text("3 learned tokens ({})", option("num_memory_tokens")),
                  text("up to 7 tokens of earlier calls ({}), where a call gives their memories",
                       option("max_mem_len"))));
  const auto wrapped = cost_of(R"({"type": "AutoregressiveWrapper", "net": {
      "type": "TransformerWrapper", "num_tokens": 9, "max_seq_len": 9, "num_memory_tokens": 1,
      "attn_layers": {"type": "Decoder", "dim": 8, "depth": 1}}})");
  EXPECT_THAT(wrapped.memories,
              testing::ElementsAre(
                  text("1 learned token ({})", option(OptionPath("net") / "num_memory_tokens"))));
  const auto plain = cost_of(R"({"type": "TransformerWrapper", "num_tokens": 9, "max_seq_len": 9,
      "attn_layers": {"type": "Encoder", "dim": 8, "depth": 1}})");
  EXPECT_EQ(plain.attentions.at(0).sight, "not causal");
  EXPECT_TRUE(plain.memories.empty());
}

TEST(ModelCost, SaysWhatTokensSeeThroughWhatIsAroundAttention) {
  const auto shifted = cost_of(R"({"type": "PrefixDecoder", "dim": 8, "depth": 1,
      "shift_tokens": 1, "use_layerscale": true})",
                               9);
  EXPECT_EQ(shifted.attentions.at(0).sight,
            text("causal, but for a prefix that all see ({})", option("prefix_attn_len")));
}

TEST(ModelCost, SaysWhichMemoriesNetsOfOtherInputsHave) {
  const auto layers = R"("num_memory_tokens": 2, "max_mem_len": 5, "max_seq_len": 9,
      "attn_layers": {"type": "Decoder", "dim": 8, "depth": 1}})";
  for (const std::string net :
       {R"({"type": "ContinuousTransformerWrapper", "dim_in": 3, "dim_out": 3, )",
        R"({"type": "XValTransformerWrapper", "num_tokens": 9, "numerical_token_id": 3, )",
        R"({"type": "MultiInputTransformerWrapper", "num_tokens": {"note": 9}, )"}) {
    EXPECT_THAT(cost_of((net + layers).c_str()).memories,
                testing::ElementsAre(
                    text("2 learned tokens ({})", option("num_memory_tokens")),
                    text("up to 5 tokens of earlier calls ({}), where a call gives their memories",
                         option("max_mem_len"))))
        << net;
  }
}

TEST(ModelCost, SharedParametersCountOnce) {
  const auto tied = cost_of(R"({"type": "TransformerWrapper", "num_tokens": 100, "max_seq_len": 9,
      "tie_embedding": true, "attn_layers": {"type": "Decoder", "dim": 8, "depth": 1}})");
  const auto separate =
      cost_of(R"({"type": "TransformerWrapper", "num_tokens": 100, "max_seq_len": 9,
      "attn_layers": {"type": "Decoder", "dim": 8, "depth": 1}})");
  EXPECT_EQ(tied.parameters, separate.parameters - int64_t{100} * 8);
  EXPECT_EQ(tied.flops.products, separate.flops.products);
}

/// What the dry run counts is what a model that computes dispatches. In float64, which runs no
/// kernels that the counter does not see.
TEST(ModelCost, IsThatOfARealCall) {
  const auto config = Json::parse(R"({"type": "AutoregressiveWrapper", "net": {
      "type": "TransformerWrapper", "num_tokens": 50, "max_seq_len": 24, "num_memory_tokens": 2,
      "attn_layers": {"type": "Decoder", "dim": 16, "depth": 2, "heads": 4, "attn_dim_head": 8,
      "rotary_pos_emb": true, "attn_kv_heads": 2, "attn_pre_talking_heads": true, "ff_glu": true,
      "attn_softclamp_logits": true, "use_rmsnorm": true, "rel_pos_bias": true, "macaron": true,
      "attn_hybrid_module": {"type": "CausalConv1d", "dim": 16, "dim_out": 32, "kernel_size": 3},
      "attn_hybrid_fold_axial_dim": 1, "num_residual_streams": 2, "add_value_residual": true}}})");
  const auto cost = model_cost(config, "config");
  ASSERT_EQ(cost.not_counted, std::nullopt);
  const auto model = build_model(config);
  model->module().eval();
  model->module().to(at::kDouble);
  const auto call = model->sample_call(std::nullopt);
  const auto real = count_flops(
      [&] { run_model(*model, "forward", call.inputs, Json::parse(call.kwargs), false); });
  const auto tokens = static_cast<double>(cost.tokens);
  EXPECT_EQ(cost.tokens, 24);
  EXPECT_NEAR(cost.flops.products, real.products / tokens, 1e-6);
  EXPECT_NEAR(cost.flops.elements, real.elements / tokens, 0.01 * cost.flops.elements);
}

TEST(ModelCost, NamesWhatKeepsAStepFromBeingAGraph) {
  const char* config = R"({"type": "Decoder", "dim": 8, "depth": 1, "heads": 1, "attn_dim_head": 8,
      "attn_hybrid_fold_axial_dim": 1, "attn_hybrid_module":
      {"type": "Decoder", "dim": 8, "depth": 1, "heads": 1, "layer_dropout": 0.1}})";
  const char* reason = "the host draws which layers are left out";
  EXPECT_EQ(cost_of(config).capture_unsupported.value_or(Notice()).line(),
            std::string("attn_hybrid_module.layer_dropout: ") + reason);
  const char* wrapped = R"({"type": "AutoregressiveWrapper", "net": {"type": "TransformerWrapper",
      "num_tokens": 5, "max_seq_len": 4, "attn_layers":
      {"type": "Decoder", "dim": 8, "depth": 1, "heads": 1, "layer_dropout": 0.1}}})";
  EXPECT_EQ(cost_of(wrapped).capture_unsupported.value_or(Notice()).line(),
            std::string("net.attn_layers.layer_dropout: ") + reason);
  const char* sides = R"({"type": "XTransformer", "dim": 8, "enc_num_tokens": 5,
      "enc_max_seq_len": 4, "enc_depth": 1, "enc_heads": 1, "dec_num_tokens": 5,
      "dec_max_seq_len": 4, "dec_depth": 1, "dec_heads": 1, "dec_layer_dropout": 0.1})";
  EXPECT_EQ(cost_of(sides).capture_unsupported.value_or(Notice()).line(),
            std::string("dec_layer_dropout: ") + reason);
  EXPECT_EQ(cost_of(R"({"type": "Decoder", "dim": 8, "depth": 1})").capture_unsupported,
            std::nullopt);
}

TEST(ModelCost, NamesWhatIsNotCachedAsTheFileDoes) {
  const auto cost = cost_of(R"({"type": "AutoregressiveWrapper", "net": {
      "type": "TransformerWrapper", "num_tokens": 5, "max_seq_len": 4, "attn_layers": {
      "type": "Decoder", "dim": 8, "depth": 1, "heads": 1, "attn_selective": true}}})");
  EXPECT_EQ((Notice{{}, cost.attentions.at(0).cache_unsupported}.line()),
            "net.attn_layers.attn_selective changes the scores of past queries");
}

TEST(ModelCost, OfATypeWithoutASampleCallIsNotCounted) {
  const auto cost = cost_of(R"({"type": "Embedding", "num_embeddings": 5, "embedding_dim": 2})");
  EXPECT_EQ(cost.parameters, 10);
  EXPECT_NE(cost.not_counted, std::nullopt);
}

TEST(ModelCost, IsFoundWithFrequenciesOfOnesOwn) {
  const auto cost =
      cost_of(R"({"type": "FLASHRotaryEmbedding", "dim": 4, "custom_freqs": [1.0, 0.5]})");
  EXPECT_EQ(cost.type, "FLASHRotaryEmbedding");
}

/// The configs of all parity cases of whole models and blocks.
TEST(ModelCost, OfEveryModelOfTheParityCases) {
  const std::set<std::string> types = {"TransformerWrapper",
                                       "AutoregressiveWrapper",
                                       "XTransformer",
                                       "ViTransformerWrapper",
                                       "Encoder",
                                       "Decoder",
                                       "PrefixDecoder",
                                       "CrossAttender",
                                       "AttentionLayers",
                                       "Attention",
                                       "FeedForward",
                                       "AttentionPool"};
  std::set<Json> configs;
  for (const auto& file : std::filesystem::directory_iterator(XT_TEST_DATA "/parity")) {
    const auto golden = Json::parse(std::ifstream(file.path()));
    for (const auto& content : golden.at("cases")) {
      const auto& config = content.at("config");
      if (content.at("mode") == "generate") continue;  // it may have no loss, which is counted
      // A module in place of the token embedding may want arguments that nobody knows here.
      if (types.count(config.at("type").get<std::string>()) && !config.contains("token_emb"))
        configs.insert(config);
    }
  }
  ASSERT_GT(configs.size(), 100);
  std::set<std::string> refused;
  for (const auto& config : configs) {
    try {
      // The length of the cases, which some modules are made for.
      constexpr int64_t kTokens = 7;
      const auto cost = model_cost(config, "config", kTokens);
      EXPECT_EQ(cost.not_counted, std::nullopt) << config;
      EXPECT_GT(cost.flops.total(), 0) << config;
      // A module of one's own is made for one size.
      const bool has_module = config.dump().find("custom_activation\":{") != std::string::npos;
      for (const auto& option : option_costs(config, cost, kTokens)) {
        if (!has_module && !is_of_hybrid_module(option.not_counted)) {
          EXPECT_EQ(option.not_counted, std::nullopt) << option.name << " of " << config;
        }
        if (option.reason) refused.insert(option.name);
      }
    } catch (const InputError& error) {
      EXPECT_NE(std::string(error.what()).find("not built yet"), std::string::npos)
          << error.what() << "\n"
          << config;
    }
  }
  // Without these there is no such model.
  EXPECT_THAT(refused, testing::ElementsAre("custom_layers"));
}

}  // namespace
}  // namespace x_transformers
