// What is given and changes nothing is taken with a warning that names it as it was given.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "warnings.h"
#include "x_transformers/core/json.h"
#include "x_transformers/interchange/interchange.h"

namespace x_transformers {
namespace {

using testing::ElementsAre;

const auto kStack = Json::parse(R"({"type": "Decoder", "dim": 16, "depth": 2, "heads": 4})");

/// The warnings of a model with `changes` merged over it.
std::vector<std::string> warnings_of(Json config, const char* changes) {
  config.merge_patch(Json::parse(changes));
  const CollectedWarnings warnings;
  build_model(config);
  const auto& messages = warnings.messages();
  // Each layer has the same.
  const std::set<std::string> different(messages.begin(), messages.end());
  return {different.begin(), different.end()};
}

TEST(UnusedOptions, AreNamedAsTheStackSpellsThem) {
  EXPECT_THAT(warnings_of(kStack, "{}"), ElementsAre());
  EXPECT_THAT(
      warnings_of(kStack, R"({"attn_custom_attn_fn": {"type": "Sigmoid"}, "attn_hard": true})"),
      ElementsAre("config.attn_hard: changes nothing, attn_custom_attn_fn stands in its place"));
  EXPECT_THAT(
      warnings_of(kStack, R"({"attn_hybrid_learned_mix": true, "attn_hybrid_mask_kwarg": "mask"})"),
      ElementsAre(
          "config.attn_hybrid_learned_mix: changes nothing, there is no attn_hybrid_module",
          "config.attn_hybrid_mask_kwarg: changes nothing, there is no attn_hybrid_module"));
}

TEST(UnusedOptions, OfCrossAttentionAreItsOwnOrAttentions) {
  EXPECT_THAT(warnings_of(kStack, R"({"cross_attend": true, "attn_hybrid_fold_axial_dim": 2})"),
              ElementsAre("config.attn_hybrid_fold_axial_dim: changes nothing, there is no "
                          "attn_hybrid_module"));
  EXPECT_THAT(
      warnings_of(kStack, R"({"cross_attend": true, "cross_attn_hybrid_fold_axial_dim": 2})"),
      ElementsAre("config.cross_attn_hybrid_fold_axial_dim: changes nothing, there is no "
                  "cross_attn_hybrid_module"));
}

TEST(UnusedOptions, NameTheSideOfAnEncoderDecoder) {
  const auto model = Json::parse(R"({"type": "XTransformer", "dim": 16, "enc_num_tokens": 7,
      "enc_max_seq_len": 8, "enc_depth": 1, "enc_heads": 2, "dec_num_tokens": 7,
      "dec_max_seq_len": 8, "dec_depth": 1, "dec_heads": 2})");
  EXPECT_THAT(warnings_of(model, R"({"enc_attn_hybrid_learned_mix": true})"),
              ElementsAre("config.enc_attn_hybrid_learned_mix: changes nothing, there is no "
                          "enc_attn_hybrid_module"));
}

/// The warnings of a call of the model.
std::vector<std::string> warnings_of_call(const Json& config, const TensorMap& inputs,
                                          const std::string& mode = "forward",
                                          const Json& kwargs = Json::object()) {
  const auto model = build_model(config);
  model->module().eval();
  const CollectedWarnings warnings;
  run_model(*model, mode, inputs, kwargs, false);
  return warnings.messages();
}

TEST(UnusedInputs, OfAStackAreNamedAsGiven) {
  const auto x = at::randn({1, 5, 16});
  const auto ends = at::tensor({0, 5}).to(at::kInt);
  auto packed = kStack;
  packed["attn_flash_pack_seq"] = true;
  EXPECT_THAT(warnings_of_call(kStack, {{"x", x}}), ElementsAre());
  EXPECT_THAT(
      warnings_of_call(packed, {{"x", x}}),
      ElementsAre("attn_flash_pack_seq: changes nothing, as there are no flash_pack_seq_kwargs"));
  EXPECT_THAT(warnings_of_call(kStack, {{"x", x}, {"pos", at::arange(5)}}),
              ElementsAre("pos: changes nothing, no layer has positions to take it"));
  auto gated = kStack;
  gated["attn_data_dependent_alibi"] = true;
  EXPECT_THAT(
      warnings_of_call(gated, {{"x", x}, {"attn_bias", at::randn({5, 5})}}),
      ElementsAre("attn_bias: changes nothing, attn_data_dependent_alibi stands in its place"));
}

TEST(UnusedInputs, AreNotThoseOfTheModelAroundTheStack) {
  const auto warnings_of_stack = [](const Json& layers, TensorMap inputs,
                                    const Json& more = Json::object()) {
    Json model = {{"type", "TransformerWrapper"},
                  {"num_tokens", 17},
                  {"max_seq_len", 8},
                  {"attn_layers", {{"type", "Decoder"}, {"dim", 16}, {"heads", 4}}}};
    model["attn_layers"].update(layers);
    model.update(more);
    inputs["x"] = at::ones({2, 5}, at::kLong);
    return warnings_of_call(model, inputs);
  };
  const TensorMap pos = {{"pos", at::arange(5)}};
  EXPECT_THAT(warnings_of_stack({{"depth", 0}, {"alibi_pos_bias", true}}, pos), ElementsAre());
  EXPECT_THAT(warnings_of_stack({{"custom_layers", {"f"}}, {"rotary_pos_emb", true}}, pos),
              ElementsAre("pos: changes nothing, the model has no positions to take it"));
  EXPECT_THAT(warnings_of_stack({{"custom_layers", {"a"}}}, {}, {{"ff_deep_embed", true}}),
              ElementsAre());
  EXPECT_THAT(warnings_of_stack({{"custom_layers", {"f"}}}, {{"mask", at::ones({2, 5}, at::kBool)}},
                                {{"average_pool_embed", true}}),
              ElementsAre());
}

TEST(UnusedInputs, OfGeneration) {
  const Json model = {
      {"type", "AutoregressiveWrapper"},
      {"net",
       {{"type", "TransformerWrapper"},
        {"num_tokens", 17},
        {"max_seq_len", 8},
        {"tie_embedding", true},
        {"token_emb", {{"type", "TokenEmbedding"}, {"dim", 16}, {"num_tokens", 25}}},
        {"attn_layers", kStack}}}};
  const TensorMap prompts = {{"prompts", at::ones({1, 2}, at::kLong)}};
  // Tied, the tokens of the embedding have logits.
  EXPECT_THAT(warnings_of_call(model, prompts, "generate", {{"seq_len", 1}, {"eos_token", 24}}),
              ElementsAre());
  EXPECT_THAT(warnings_of_call(model, prompts, "generate",
                               {{"seq_len", 1}, {"eos_token", 25}, {"return_attn", true}}),
              ElementsAre("return_attn: changes nothing, nothing that is returned depends on it",
                          "eos_token: changes nothing, as 25 is no token from 0 to 24"));
  EXPECT_THAT(warnings_of_call(model, prompts, "generate",
                               {{"seq_len", 1}, {"method", "beam_search"}, {"return_mems", true}}),
              ElementsAre("return_mems: changes nothing, nothing that is returned depends on it"));
}

TEST(UnusedOptions, AHeadOfOnesOwnBesideWhatMakesTheLogits) {
  const auto model =
      Json{{"type", "TransformerWrapper"},
           {"num_tokens", 17},
           {"max_seq_len", 8},
           {"attn_layers", kStack},
           {"to_logits", {{"type", "Linear"}, {"in_features", 16}, {"out_features", 9}}}};
  EXPECT_THAT(warnings_of(model, "{}"), ElementsAre());
  EXPECT_THAT(warnings_of(model, R"({"tie_embedding": true})"),
              ElementsAre("config.to_logits: changes nothing, tie_embedding makes the logits"));
  EXPECT_THAT(warnings_of(model, R"({"return_only_embed": true})"),
              ElementsAre("config.to_logits: changes nothing, return_only_embed makes no logits"));
  EXPECT_THAT(
      warnings_of(model, R"({"num_output_heads": 2})"),
      ElementsAre("config.to_logits: changes nothing, num_output_heads > 1 makes heads of its "
                  "own"));
}

}  // namespace
}  // namespace x_transformers
