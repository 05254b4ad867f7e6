#include "x_transformers/compare/text_evaluation.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numbers>

#include "x_transformers/core/error.h"
#include "x_transformers/core/evaluation.h"

namespace x_transformers {
namespace {

std::shared_ptr<Model> small_model(const std::string& layers = R"("rotary_pos_emb": true)") {
  at::manual_seed(1);
  return build_trainable_model(Json::parse(R"({"type": "AutoregressiveWrapper",
        "net": {"type": "TransformerWrapper", "num_tokens": 11, "max_seq_len": 16,
                "attn_layers": {"type": "Decoder", "dim": 8, "depth": 1, "heads": 2,
                                "attn_dim_head": 4, )" +
                                           layers + "}}}"),
                               "model");
}

at::Tensor some_tokens(int64_t count) {
  at::manual_seed(2);
  return at::randint(0, 11, {count}, at::kLong);
}

TEST(TextEvaluationTest, IsTheLossOfTheModelOverTheText) {
  const auto model = small_model();
  const auto tokens = some_tokens(8 * 12 + 1);
  const auto found = evaluate_tokens(*model, tokens, 8, 3, at::kCPU);
  const Evaluation evaluation(model->module());
  const auto sequences = tokens.unfold(0, 9, 8).contiguous();
  ASSERT_EQ(sequences.size(0), 12);
  EXPECT_NEAR(found.loss, model->loss({{"x", sequences}}).item<double>(), 1e-5);
  EXPECT_EQ(found.tokens, 8 * 12);
  EXPECT_EQ(found.seq_len, 8);
}

TEST(TextEvaluationTest, CountsEveryTokenOnce) {
  const auto model = small_model();
  const auto found = evaluate_tokens(*model, some_tokens(101), 8, 3, at::kCPU);  // 12 and a half
  EXPECT_EQ(found.tokens, 100);
  int64_t by_position = 0, by_bin = 0;
  double loss = 0, hits = 0;
  for (const auto& part : found.by_position) {
    by_position += part.tokens;
    loss += part.loss * static_cast<double>(part.tokens);
  }
  for (const auto& bin : found.calibration) {
    by_bin += bin.tokens;
    hits += bin.accuracy * static_cast<double>(bin.tokens);
    EXPECT_GE(bin.confidence, bin.low);
    EXPECT_LE(bin.confidence, bin.high);
  }
  EXPECT_EQ(by_position, 100);
  EXPECT_EQ(by_bin, 100);
  EXPECT_NEAR(loss / 100, found.loss, 1e-9);
  EXPECT_NEAR(hits / 100, found.accuracy, 1e-9);
  ASSERT_EQ(found.by_position.size(), 4U);  // 1, 2 to 3, 4 to 7, 8
  EXPECT_EQ(found.by_position[0].tokens, 13);
  EXPECT_EQ(found.by_position[3].first, 8);
  EXPECT_EQ(found.by_position[3].last, 8);
}

TEST(TextEvaluationTest, KeepsThePassagesThatCostMost) {
  const auto model = small_model();
  const auto tokens = some_tokens(8 * 12 + 1);
  const auto found = evaluate_tokens(*model, tokens, 8, 3, at::kCPU);
  ASSERT_EQ(found.worst.size(), 3U);
  EXPECT_GE(found.worst[0].loss, found.worst[1].loss);
  EXPECT_GE(found.worst[1].loss, found.worst[2].loss);
  EXPECT_GT(found.worst[2].loss, found.loss);
  for (const auto& passage : found.worst) {
    const auto ids = tokens.slice(0, passage.token, passage.token + std::ssize(passage.ids));
    for (int64_t i = 0; i < std::ssize(passage.ids); ++i)
      EXPECT_EQ(ids[i].item<int64_t>(), passage.ids[static_cast<size_t>(i)]);
  }
  EXPECT_TRUE(evaluate_tokens(*model, tokens, 8, 0, at::kCPU).worst.empty());
}

TEST(TextEvaluationTest, KnowsAModelThatIsSureAndRight) {
  // All weights 0 but a bias would need a head; a model of one token is always right.
  const auto model = build_trainable_model(Json::parse(R"({"type": "AutoregressiveWrapper",
        "net": {"type": "TransformerWrapper", "num_tokens": 1, "max_seq_len": 16,
                "attn_layers": {"type": "Decoder", "dim": 8, "depth": 1, "heads": 2}}})"),
                                           "model");
  const auto found = evaluate_tokens(*model, at::zeros({33}, at::kLong), 8, 1, at::kCPU);
  EXPECT_NEAR(found.loss, 0, 1e-6);
  EXPECT_EQ(found.accuracy, 1);
  EXPECT_NEAR(found.calibration_error, 0, 1e-6);
}

TEST(TextEvaluationTest, EvaluatesLengthsBeyondTrainingWhereTheModelCan) {
  const auto tokens = some_tokens(97);
  EXPECT_EQ(evaluate_tokens(*small_model(), tokens, 32, 0, at::kCPU).tokens, 96);
  EXPECT_THROW(evaluate_tokens(*small_model(R"("use_rmsnorm": true)"), tokens, 32, 0, at::kCPU),
               InputError);
}

TEST(TextEvaluationTest, RefusesAModelWithoutLogitsAndATextWithoutTokens) {
  EXPECT_THROW(evaluate_tokens(*small_model(), some_tokens(1), 8, 0, at::kCPU), InputError);
  const auto flash = build_trainable_model(Json::parse(R"({"type": "FLASHAutoregressiveWrapper",
        "net": {"type": "FLASHTransformer", "num_tokens": 11, "dim": 8, "depth": 1,
                "causal": true, "group_size": 4}})"),
                                           "model");
  EXPECT_THROW(evaluate_tokens(*flash, some_tokens(50), 8, 0, at::kCPU), InputError);
}

TEST(TextEvaluationTest, TellsItAllInJson) {
  const auto found = evaluate_tokens(*small_model(), some_tokens(97), 8, 2, at::kCPU);
  const auto json = evaluation_json(found, nullptr, 2.0);
  EXPECT_NEAR(json["bits_per_byte"].get<double>(), found.loss / std::numbers::ln2 / 2, 1e-12);
  EXPECT_NEAR(json["perplexity"].get<double>(), std::exp(found.loss), 1e-9);
  EXPECT_EQ(json["worst"].size(), 2U);
  EXPECT_TRUE(evaluation_json(found, nullptr, {})["bits_per_byte"].is_null());
}

}  // namespace
}  // namespace x_transformers
