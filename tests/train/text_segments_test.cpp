// Text cut where a trained model is unsure of what follows.
#include "x_transformers/train/text_segments.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "temporary_folder.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/interchange/interchange.h"
#include "x_transformers/train/train_model.h"

namespace x_transformers::text_segments_test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;
namespace fs = std::filesystem;

/// A model of words that follow each other in any order, without spaces.
class TextSegments : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    const auto root = fs::path(temporary_folder()) / "text_segments";
    fs::create_directories(root);
    std::ofstream text(root / "text.txt");
    std::mt19937 draw(1);
    for (int i = 0; i < 2000; ++i) text << std::vector{"fig", "plum", "dates"}[draw() % 3];
    text.close();
    const Json run = {{"model",
                       {{"type", "TransformerWrapper"},
                        {"num_tokens", 256},
                        {"max_seq_len", 16},
                        {"attn_layers",
                         {{"type", "Decoder"},
                          {"dim", 16},
                          {"depth", 1},
                          {"heads", 2},
                          {"attn_dim_head", 8},
                          {"rotary_pos_emb", true}}}}},
                      {"data", {{"path", (root / "text.txt").string()}, {"batch_size", 16}}},
                      {"train",
                       {{"steps", 100},
                        {"schedule", "constant"},
                        {"warmup_steps", 0},
                        {"learning_rate", 0.02},
                        {"eval_every", 1000},
                        {"sample_every", 0},
                        {"tensorboard", false},
                        {"plot", false},
                        {"progress", "none"}}}};
    at::manual_seed(1);
    train_model(parse_run_options(run, "run.json"), root / "run", false);
    trained_ = load_language_model({.path = root / "run"});
  }
  static void TearDownTestSuite() { trained_ = {}; }

  static LanguageModel trained_;
};

LanguageModel TextSegments::trained_;

TEST_F(TextSegments, AreTheWordsOfTheText) {
  EXPECT_THAT(segment_text(trained_, "figplumdatesfig", {0.5}),
              ElementsAre("fig", "plum", "dates", "fig"));
}

TEST_F(TextSegments, OfATextLongerThanTheModelReads) {
  std::string text;
  std::vector<std::string> words;
  for (int i = 0; i < 20; ++i) {
    words.emplace_back(i % 2 == 0 ? "dates" : i % 3 == 0 ? "fig" : "plum");
    text += words.back();
  }
  EXPECT_EQ(segment_text(trained_, text, {0.5}), words);
}

TEST_F(TextSegments, AreCutAtMaxTokenSize) {
  EXPECT_THAT(segment_text(trained_, "datesfig", {0.5, 2}),
              ElementsAre("da", "te", "s", "fi", "g"));
  EXPECT_THAT(segment_text(trained_, "datesfig", {100.0}), ElementsAre("datesfig"));
}

TEST_F(TextSegments, Refuse) {
  EXPECT_THAT([] { segment_text(trained_, "", {0.5}); },
              ThrowsMessage<InputError>(HasSubstr("text: is empty")));
  EXPECT_THAT(
      [] {
        segment_text(trained_, "fig", {0.5, 0});
      },
      ThrowsMessage<InputError>(HasSubstr("max_token_size")));
  LanguageModel masked = trained_;
  const auto of_net = [](const char* type, const char* name, const char* stack) {
    return Json{{"type", type},
                {name,
                 {{"type", "TransformerWrapper"},
                  {"num_tokens", 257},
                  {"max_seq_len", 8},
                  {"attn_layers", {{"type", stack}, {"dim", 8}, {"depth", 1}, {"heads", 1}}}}}};
  };
  auto config = of_net("NonAutoregressiveWrapper", "net", "Encoder");
  config["mask_id"] = 256;
  masked.model = build_model(config);
  EXPECT_THAT([&] { segment_text(masked, "fig", {0.5}); },
              ThrowsMessage<InputError>(HasSubstr("expected one that predicts next tokens")));
  config = of_net("UniversalPretrainWrapper", "model", "Decoder");
  config["seq_len"] = 8;
  config["seed_length"] = 2;
  masked.model = build_model(config);
  EXPECT_THAT(segment_text(masked, "fig", {100.0}), ElementsAre("fig"));
}

}  // namespace
}  // namespace x_transformers::text_segments_test
