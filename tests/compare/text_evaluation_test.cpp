#include "x_transformers/compare/text_evaluation.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "x_transformers/core/error.h"
#include "x_transformers/core/evaluation.h"
#include "x_transformers/generation/decoding_session.h"
#include "x_transformers/interchange/token_predictor.h"

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

std::shared_ptr<Model> model_of(const std::string& json) {
  at::manual_seed(1);
  return build_trainable_model(Json::parse(json), "model");
}

TEST(TextEvaluationTest, RefusesAModelWithoutLogitsAndATextWithoutTokens) {
  EXPECT_THROW(evaluate_tokens(*small_model(), some_tokens(1), 8, 0, at::kCPU), InputError);
  const auto masked = model_of(R"({"type": "NonAutoregressiveWrapper", "mask_id": 11,
        "net": {"type": "TransformerWrapper", "num_tokens": 12, "max_seq_len": 8,
                "attn_layers": {"type": "Encoder", "dim": 8, "depth": 1, "heads": 2}}})");
  EXPECT_THROW(evaluate_tokens(*masked, some_tokens(50), 8, 0, at::kCPU), InputError);
}

/// The mean loss of a text that is a whole number of sequences is the model's own loss.
TEST(TextEvaluationTest, IsTheLossOfOtherWrappersToo) {
  const auto net = [](const char* type, const std::string& more) {
    return std::string(R"({"type": ")") + type + R"(", "net": {"type": "TransformerWrapper",
        "num_tokens": 11, "max_seq_len": 8, )" +
           more + R"("attn_layers": {"type": "Decoder", "dim": 8, "depth": 1, "heads": 2,
        "attn_dim_head": 4, "rotary_pos_emb": true}}})";
  };
  // None is 0, the padding that FLASH's wrapper leaves out.
  const auto tokens = some_tokens(16 * 3 + 1).clamp_min(1);
  for (const auto& json :
       {net("XLAutoregressiveWrapper", R"("max_mem_len": 8, )"),
        std::string(R"({"type": "FLASHAutoregressiveWrapper", "net": {"type": "FLASHTransformer",
            "num_tokens": 11, "dim": 8, "depth": 1, "causal": true, "group_size": 4}})")}) {
    const auto model = model_of(json);
    const auto found = evaluate_tokens(*model, tokens, 16, 0, at::kCPU);
    const Evaluation evaluation(model->module());
    const auto sequences = tokens.unfold(0, 17, 16).contiguous();
    EXPECT_NEAR(found.loss, model->loss({{"x", sequences}}).item<double>(), 1e-5) << json;
  }
}

TEST(TextEvaluationTest, GivesXLTheMemoriesOfEarlierSegments) {
  const auto model = model_of(R"({"type": "XLAutoregressiveWrapper", "net": {
        "type": "TransformerWrapper", "num_tokens": 11, "max_seq_len": 8, "max_mem_len": 8,
        "attn_layers": {"type": "Decoder", "dim": 8, "depth": 1, "heads": 2,
                        "rotary_pos_emb": true}}})");
  const auto tokens = some_tokens(33);
  const auto alone = evaluate_tokens(*model, tokens, 8, 0, at::kCPU),
             with_memory = evaluate_tokens(*model, tokens, 32, 0, at::kCPU);
  EXPECT_EQ(alone.tokens, with_memory.tokens);
  EXPECT_NE(alone.loss, with_memory.loss);
}

TEST(TextEvaluationTest, GivesABeliefStateAnOpenEnd) {
  const auto model = model_of(R"({"type": "BeliefStateWrapper", "forward_decoder": {
        "type": "TransformerWrapper", "num_tokens": 11, "max_seq_len": 16,
        "attn_layers": {"type": "Decoder", "dim": 8, "depth": 1, "heads": 2,
                        "rotary_pos_emb": true}}})");
  const auto tokens = some_tokens(33);
  const auto found = evaluate_tokens(*model, tokens, 8, 0, at::kCPU);
  EXPECT_EQ(found.tokens, 32);
  // What the writer draws from, after the first 4 tokens.
  const Evaluation evaluation(model->module());
  SessionRequest request;
  const auto session = model->writer()->start_session(request);
  const auto logits = session->append(tokens.slice(0, 0, 4).unsqueeze(0));
  const auto own =
      predictor_of(*model).next_token_logits({{"seq", tokens.slice(0, 0, 9).unsqueeze(0)}});
  EXPECT_TRUE(at::allclose(own.select(1, 3), logits, 1e-4, 1e-5));
}

TEST(TextEvaluationTest, SaysWhatElseLatentModelsKnow) {
  const auto vae = model_of(R"({"type": "GPTVAE", "num_tokens": 11, "dim": 8, "depth": 1,
        "enc_depth": 1, "max_seq_len": 16, "heads": 2})");
  const auto tokens = some_tokens(33);
  const auto found = evaluate_tokens(*vae, tokens, 8, 0, at::kCPU);
  EXPECT_EQ(found.tokens, 32);
  EXPECT_FALSE(found.also_knows.empty());
  const auto free = model_of(R"({"type": "FreeTransformer", "num_tokens": 11, "dim": 8,
        "dec_head_depth": 1, "dec_tail_depth": 1, "enc_depth": 1, "max_seq_len": 16,
        "latent_bits": 3, "heads": 2})");
  const auto drawn = evaluate_tokens(*free, tokens, 8, 0, at::kCPU);
  EXPECT_EQ(drawn.tokens, 32);
  EXPECT_TRUE(std::isfinite(drawn.loss));
  EXPECT_FALSE(drawn.also_knows.empty());
}

TEST(TextEvaluationTest, EvaluatesTargetsByTheirSources) {
  const auto model = model_of(R"({"type": "XTransformer", "dim": 8, "enc_num_tokens": 11,
        "enc_depth": 1, "enc_heads": 2, "enc_max_seq_len": 8, "dec_num_tokens": 11,
        "dec_depth": 1, "dec_heads": 2, "dec_max_seq_len": 8})");
  ExamplePart examples;
  at::manual_seed(3);
  examples.tensors["src"] = at::randint(0, 11, {20, 6}, at::kLong);
  examples.tensors["tgt"] = at::randint(0, 11, {20, 5}, at::kLong);
  examples.tensors["tgt"].slice(0, 0, 7).slice(1, 3).fill_(-100);
  examples.places.path = "pairs";
  const auto found = evaluate_examples(*model, examples, 2, at::kCPU);
  EXPECT_EQ(found.tokens, 7 * 2 + 13 * 4);
  const Evaluation evaluation(model->module());
  EXPECT_NEAR(found.loss, model->loss(examples.tensors).item<double>(), 1e-5);
  EXPECT_EQ(found.also_knows, "the source");
  ASSERT_EQ(found.worst.size(), 2U);
  EXPECT_FALSE(found.worst[0].place.empty());
  examples.tensors["tgt"][0][0] = 11;
  EXPECT_THROW(evaluate_examples(*model, examples, 2, at::kCPU), InputError);
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
