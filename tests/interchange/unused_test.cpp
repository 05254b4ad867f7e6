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
      ElementsAre("attn_hard: changes nothing, attn_custom_attn_fn stands in its place"));
  EXPECT_THAT(
      warnings_of(kStack, R"({"attn_hybrid_learned_mix": true, "attn_hybrid_mask_kwarg": "mask"})"),
      ElementsAre("attn_hybrid_learned_mix: changes nothing, there is no attn_hybrid_module",
                  "attn_hybrid_mask_kwarg: changes nothing, there is no attn_hybrid_module"));
}

TEST(UnusedOptions, OfCrossAttentionAreItsOwnOrAttentions) {
  EXPECT_THAT(warnings_of(kStack, R"({"cross_attend": true, "attn_hybrid_fold_axial_dim": 2})"),
              ElementsAre("attn_hybrid_fold_axial_dim: changes nothing, there is no "
                          "attn_hybrid_module"));
  EXPECT_THAT(
      warnings_of(kStack, R"({"cross_attend": true, "cross_attn_hybrid_fold_axial_dim": 2})"),
      ElementsAre("cross_attn_hybrid_fold_axial_dim: changes nothing, there is no "
                  "cross_attn_hybrid_module"));
}

TEST(UnusedOptions, NameTheSideOfAnEncoderDecoder) {
  const auto model = Json::parse(R"({"type": "XTransformer", "dim": 16, "enc_num_tokens": 7,
      "enc_max_seq_len": 8, "enc_depth": 1, "enc_heads": 2, "dec_num_tokens": 7,
      "dec_max_seq_len": 8, "dec_depth": 1, "dec_heads": 2})");
  EXPECT_THAT(warnings_of(model, R"({"enc_attn_hybrid_learned_mix": true})"),
              ElementsAre("enc_attn_hybrid_learned_mix: changes nothing, there is no "
                          "enc_attn_hybrid_module"));
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
              ElementsAre("to_logits: changes nothing, tie_embedding makes the logits"));
  EXPECT_THAT(warnings_of(model, R"({"return_only_embed": true})"),
              ElementsAre("to_logits: changes nothing, return_only_embed makes no logits"));
  EXPECT_THAT(warnings_of(model, R"({"num_output_heads": 2})"),
              ElementsAre("to_logits: changes nothing, num_output_heads > 1 makes heads of its "
                          "own"));
}

}  // namespace
}  // namespace x_transformers
