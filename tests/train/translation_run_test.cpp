// A run over pairs of texts: an encoder and a decoder learn to translate, and then do.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "temporary_folder.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/train/language_model.h"
#include "x_transformers/train/text_generation.h"
#include "x_transformers/train/train_model.h"

namespace x_transformers::translation_run_test {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;
namespace fs = std::filesystem;

/// A model that knows two words.
class Translation : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    const auto root = fs::path(temporary_folder()) / "translation_run";
    fs::create_directories(root);
    std::ofstream pairs(root / "pairs.tsv");
    for (int i = 0; i < 40; ++i) pairs << "1\tone\n22\ttwo\n";
    pairs.close();
    const Json run = {{"model",
                       {{"type", "XTransformer"},
                        {"dim", 16},
                        {"tie_token_emb", true},
                        {"enc_num_tokens", 128},
                        {"enc_max_seq_len", 4},
                        {"enc_depth", 1},
                        {"enc_heads", 2},
                        {"enc_attn_dim_head", 8},
                        {"dec_num_tokens", 128},
                        {"dec_max_seq_len", 8},
                        {"dec_depth", 1},
                        {"dec_heads", 2},
                        {"dec_attn_dim_head", 8}}},
                      {"data",
                       {{"path", (root / "pairs.tsv").string()},
                        {"format", "pairs"},
                        {"batch_size", 8},
                        {"val_fraction", 0}}},
                      {"train",
                       {{"steps", 80},
                        {"schedule", "constant"},
                        {"warmup_steps", 0},
                        {"learning_rate", 0.01},
                        {"tensorboard", false},
                        {"plot", false},
                        {"progress", "none"}}}};
    at::manual_seed(1);
    train_model(parse_run_options(run, "run.json"), root / "run", false);
    trained_ = load_language_model({.path = root / "run"});
  }
  static void TearDownTestSuite() { trained_ = {}; }

  static std::string translate(const std::string& prompt,
                               std::optional<int64_t> beams = std::nullopt) {
    TextGeneration generation;
    generation.prompt = prompt;
    generation.options.temperature = 0;
    generation.beams = beams;
    return write_text(trained_, generation).text;
  }

  static LanguageModel trained_;
};

LanguageModel Translation::trained_;

TEST_F(Translation, IsThatOfThePromptUpToItsEnd) {
  EXPECT_EQ(translate("1"), "one");
  EXPECT_EQ(translate("22"), "two");
  EXPECT_EQ(translate("22", /*beams=*/3), "two");
}

TEST_F(Translation, ComesPieceByPiece) {
  TextGeneration generation;
  generation.prompt = "1";
  generation.options.temperature = 0;
  std::vector<std::string> pieces;
  generation.write = [&](const std::string& piece) { pieces.push_back(piece); };
  write_text(trained_, generation);
  EXPECT_THAT(pieces, testing::ElementsAre("o", "n", "e"));
}

TEST_F(Translation, IsNoLongerThanTheDecoder) {
  TextGeneration generation;
  generation.prompt = "1";
  generation.options.temperature = 0;
  generation.options.eos_token = 127;  // which never comes
  EXPECT_EQ(write_text(trained_, generation).text.size(), 7u);
  generation.options.seq_len = 2;
  EXPECT_EQ(write_text(trained_, generation).text.size(), 2u);
}

TEST_F(Translation, Refuses) {
  EXPECT_THAT([] { translate(""); }, ThrowsMessage<InputError>(HasSubstr("prompt: is needed")));
  EXPECT_THAT([] { translate("11111"); },
              ThrowsMessage<InputError>(HasSubstr("5 tokens, more than max_seq_len = 4")));
  EXPECT_THAT([] { translate("\xff"); }, ThrowsMessage<InputError>(HasSubstr("num_tokens = 128")));
  TextGeneration generation;
  generation.prompt = "1";
  generation.amateurs = {trained_.model};
  EXPECT_THAT([&] { write_text(trained_, generation); },
              ThrowsMessage<InputError>(HasSubstr("amateur")));
  EXPECT_THAT([] { trained_.writer(); }, ThrowsMessage<InputError>(HasSubstr("translates")));
}

}  // namespace
}  // namespace x_transformers::translation_run_test
