#include "x_transformers/data/tokenizer.h"

#include <c10/util/Logging.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <sstream>

#include "temporary_folder.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/utf8.h"

C10_DECLARE_bool(caffe2_use_fatal_for_enforce);

namespace x_transformers {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

std::string write_file(const std::string& name, const std::string& content) {
  auto path = temporary_folder() + "tokenizer_" + name;
  std::ofstream(path, std::ios::binary) << content;
  return path;
}

/// Text of words that repeat, with characters of all UTF-8 lengths.
std::string sample_text(size_t sentences) {
  const std::vector<std::string> words = {"the", "king", "and",          "queen",
                                          "of",  "thé",  "night",        "walked",
                                          "in",  "snow", "\u6f22\u5b57", "deep"};
  std::string text;
  uint32_t state = 1;
  for (size_t i = 0; i < sentences; ++i) {
    for (int word = 0; word < 8; ++word) {
      state = state * 1664525u + 1013904223u;
      text += words[(state >> 16) % words.size()] + (word < 7 ? " " : ".\n");
    }
  }
  return text;
}

std::string train_model(const std::string& model_type) {
  SentencePieceTrainingOptions options;
  options.input = {write_file("corpus.txt", sample_text(400))};
  options.output = temporary_folder() + "tokenizer_" + model_type + ".model";
  options.vocab_size = 300;
  options.model_type = model_type;
  train_sentencepiece(options);
  return options.output;
}

/// A model as sentencepiece makes them by default: it puts a space before the text. `arguments`
/// change that.
std::string train_default_model(const std::string& arguments = "--vocab_size=36") {
  const auto corpus = write_file("corpus.txt", sample_text(400));
  const auto prefix = temporary_folder() + "tokenizer_default";
  const auto status = sentencepiece::SentencePieceTrainer::Train(
      "--minloglevel=2 --character_coverage=1 --model_prefix=" + prefix + " --input=" + corpus +
      " " + arguments);
  EXPECT_TRUE(status.ok()) << status.ToString();
  return prefix + ".model";
}

std::vector<int64_t> encode_in_one_piece(const std::string& model, const std::string& text) {
  sentencepiece::SentencePieceProcessor processor;
  EXPECT_TRUE(processor.Load(model).ok());
  const auto ids = processor.EncodeAsIds(text);
  return {ids.begin(), ids.end()};
}

std::string all_bytes() {
  std::string bytes(256, '\0');
  std::iota(bytes.begin(), bytes.end(), '\0');
  return bytes;
}

TEST(ByteTokenizer, TakesAndGivesBackEveryByte) {
  const ByteTokenizer tokenizer;
  const auto tokens = tokenizer.encode(all_bytes());
  ASSERT_EQ(tokens.size(), 256u);
  for (int64_t i = 0; i < 256; ++i) EXPECT_EQ(tokens[static_cast<size_t>(i)], i);
  EXPECT_EQ(tokenizer.decode(tokens), all_bytes());
  EXPECT_EQ(tokenizer.vocab_size(), 256);
}

TEST(ByteTokenizer, RefusesTokensThatAreNoBytes) {
  const ByteTokenizer tokenizer;
  for (const int64_t token : {int64_t{-1}, int64_t{256}}) {
    EXPECT_THAT(
        [&] {
          tokenizer.decode(std::vector<int64_t>{65, token});
        },
        ThrowsMessage<InputError>(HasSubstr("token " + std::to_string(token))));
  }
}

TEST(StreamingDecoder, NeverSplitsACharacter) {
  const auto tokenizer = make_tokenizer("bytes");
  StreamingDecoder decoder(tokenizer);
  std::vector<std::string> parts;
  for (const int64_t token : tokenizer->encode("a\u00e9\u20ac\U0001F600")) {
    parts.push_back(decoder.push(token));
  }
  EXPECT_THAT(parts, ElementsAre("a", "", "\u00e9", "", "", "\u20ac", "", "", "", "\U0001F600"));
  EXPECT_EQ(decoder.flush(), "");
}

TEST(StreamingDecoder, PassesWrongBytesOnAndFlushesWhatIsUnfinished) {
  const auto tokenizer = make_tokenizer("bytes");
  const std::string text = "\xFFx\xE2\x82y\x80\xF0\x9F\x98";
  StreamingDecoder decoder(tokenizer);
  std::string out;
  for (const int64_t token : tokenizer->encode(text)) out += decoder.push(token);
  EXPECT_EQ(out, "\xFFx\xE2\x82y\x80");
  EXPECT_EQ(decoder.flush(), "\xF0\x9F\x98");
  EXPECT_EQ(decoder.flush(), "");
}

class TrainedTokenizer : public testing::TestWithParam<const char*> {};

TEST_P(TrainedTokenizer, GivesBackEveryText) {
  const SentencePieceTokenizer tokenizer(train_model(GetParam()));
  EXPECT_EQ(tokenizer.vocab_size(), 300);
  const std::vector<std::string> texts = {"",
                                          "the king walked",
                                          " leading and trailing ",
                                          "two  spaces\n\nlines\r\n\ttab",
                                          "\n",
                                          "unseen: \U0001F600 \u00df Zq",
                                          "king\nqueen",
                                          std::string("nul\0byte", 8)};
  for (const auto& text : texts) {
    const auto tokens = tokenizer.encode(text);
    EXPECT_EQ(tokenizer.decode(tokens), text);
    for (const int64_t token : tokens) EXPECT_LT(token, tokenizer.vocab_size());
  }
}

TEST_P(TrainedTokenizer, FindsWordsInItsText) {
  const SentencePieceTokenizer tokenizer(train_model(GetParam()));
  const auto text = sample_text(20);
  EXPECT_LT(tokenizer.encode(text).size(), text.size() * 2 / 3);
}

TEST_P(TrainedTokenizer, StreamsWhatItDecodes) {
  const auto tokenizer = make_tokenizer(train_model(GetParam()));
  const std::string text = "the queen \U0001F600 of\nth\u00e9";
  StreamingDecoder decoder(tokenizer);
  std::string out;
  for (const int64_t token : tokenizer->encode(text)) {
    const auto part = decoder.push(token);
    EXPECT_EQ(find_invalid_utf8(part), std::nullopt);
    out += part;
  }
  EXPECT_EQ(out, text);
}

TEST_P(TrainedTokenizer, EncodesLongTextsAsInOnePiece) {
  const auto model = train_model(GetParam());
  const SentencePieceTokenizer tokenizer(model);
  const auto text = sample_text(20000);
  ASSERT_GT(text.size(), size_t{600000});
  EXPECT_EQ(tokenizer.encode(text), encode_in_one_piece(model, text));
}

TEST(SentencePieceTokenizer, CutsTextsWithoutSpacesBetweenCharacters) {
  const SentencePieceTokenizer tokenizer(train_model("bpe"));
  std::string text;
  while (text.size() < 1200000) text += "\u6f22\u5b57\U0001F600x";
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
}

TEST(SentencePieceTokenizer, TakesTheLeadingSpaceOfDefaultModelsAwayAgain) {
  const auto model = train_default_model();
  const auto tokenizer = make_tokenizer(model);
  const auto tokens = tokenizer->encode("the king");
  EXPECT_EQ(tokenizer->decode(tokens), "the king");
  for (const bool continues : {false, true}) {
    StreamingDecoder decoder(tokenizer, continues);
    std::string out;
    for (const int64_t token : tokens) out += decoder.push(token);
    EXPECT_EQ(out + decoder.flush(), continues ? " the king" : "the king");
  }
}

TEST(SentencePieceTokenizer, DecodesAsSentencePieceDoes) {
  for (const char* arguments :
       {"--vocab_size=36", "--vocab_size=36 --add_dummy_prefix=false",
        "--vocab_size=36 --remove_extra_whitespaces=false --unk_surface=?",
        "--vocab_size=36 --add_dummy_prefix=false --remove_extra_whitespaces=false",
        "--vocab_size=36 --treat_whitespace_as_suffix=true", "--vocab_size=60 --model_type=bpe",
        "--vocab_size=292 --byte_fallback=true --normalization_rule_name=identity"}) {
    const auto model = train_default_model(arguments);
    const SentencePieceTokenizer tokenizer(model);
    const auto shared = make_tokenizer(model);
    sentencepiece::SentencePieceProcessor processor;
    ASSERT_TRUE(processor.Load(model).ok());
    const auto size = static_cast<uint32_t>(tokenizer.vocab_size());
    const std::array<int64_t, 4> special = {0, 1, 2, processor.PieceToId("\u2581")};
    uint32_t state = 7;
    const auto draw = [&](uint32_t count) {
      state = state * 1664525u + 1013904223u;
      return static_cast<int64_t>((state >> 16) % count);
    };
    for (int round = 0; round < 500; ++round) {
      std::vector<int64_t> ids;
      for (auto left = draw(3); left > 0; --left)
        ids.push_back(special[static_cast<size_t>(draw(4))]);
      for (auto left = draw(6); left > 0; --left) ids.push_back(draw(size));
      std::string expected;
      ASSERT_TRUE(processor.Decode(std::vector<int>(ids.begin(), ids.end()), &expected).ok());
      const auto text = tokenizer.decode(ids);
      StreamingDecoder decoder(shared);
      std::string streamed;
      for (const int64_t id : ids) streamed += decoder.push(id);
      EXPECT_EQ(streamed + decoder.flush(), text);
      // Bytes that are no UTF-8 stay what they are here.
      if (find_invalid_utf8(text)) continue;
      EXPECT_EQ(text, expected) << arguments;
    }
  }
}

TEST(SentencePieceTokenizer, EncodesLongTextsOfDefaultModelsAsInOnePiece) {
  const auto model = train_default_model();
  const auto text = sample_text(20000);
  EXPECT_EQ(SentencePieceTokenizer(model).encode(text), encode_in_one_piece(model, text));
}

TEST(SentencePieceTokenizer, NamesTheByteThatIsNotUtf8) {
  const SentencePieceTokenizer tokenizer(train_model("bpe"));
  EXPECT_THAT([&] { tokenizer.encode("king \xC3("); },
              ThrowsMessage<InputError>(HasSubstr("byte 5 (0xc3)")));
}

TEST(SentencePieceTokenizer, RefusesTokensOutsideItsVocabulary) {
  const SentencePieceTokenizer tokenizer(train_model("bpe"));
  EXPECT_THAT([&] { tokenizer.token_bytes(300); },
              ThrowsMessage<InputError>(HasSubstr("token 300")));
  EXPECT_THAT([&] { tokenizer.token_bytes(-1); }, ThrowsMessage<InputError>(HasSubstr("token -1")));
}

TEST(SentencePieceTokenizer, ControlTokensHaveNoText) {
  const SentencePieceTokenizer tokenizer(train_model("bpe"));
  ASSERT_TRUE(tokenizer.eos_token().has_value());
  EXPECT_EQ(tokenizer.token_bytes(*tokenizer.eos_token()), "");
}

TEST(SentencePieceTokenizer, IsWholeInItsSerializedForm) {
  const SentencePieceTokenizer tokenizer(train_model("unigram"));
  const SentencePieceTokenizer copy(write_file("copy.model", tokenizer.serialized()));
  const auto text = sample_text(5);
  EXPECT_EQ(copy.encode(text), tokenizer.encode(text));
}

TEST(SentencePieceTokenizer, LeavesTheSettingsOfLibTorchAlone) {
  // See FLAGS_minloglevel in tokenizer.cpp. As a byte: what is written there need not be a bool.
  unsigned char setting = 1;
  std::memcpy(&setting, &FLAGS_caffe2_use_fatal_for_enforce, 1);
  EXPECT_EQ(setting, 0);
}

TEST(MakeTokenizer, RefusesWhatIsNoTokenizer) {
  const auto& folder = temporary_folder();
  EXPECT_THAT([&] { make_tokenizer(folder + "missing.model"); },
              ThrowsMessage<InputError>(HasSubstr("missing.model")));
  EXPECT_THAT([&] { make_tokenizer(folder); }, ThrowsMessage<InputError>(HasSubstr("folder")));
  for (const auto& content : {std::string(), std::string("not a model"), all_bytes()}) {
    const auto path = write_file("garbage.model", content);
    EXPECT_THAT([&] { make_tokenizer(path); },
                ThrowsMessage<InputError>(HasSubstr("garbage.model is no sentencepiece model")));
  }
}

TEST(MakeTokenizer, SaysWhichOtherLibraryAVocabularyIsOf) {
  const std::pair<const char*, const char*> others[] = {
      {R"({"version": "1.0", "added_tokens": [], "model": {"type": "BPE"}})", "Hugging Face"},
      {R"({"tokenizer_class": "LlamaTokenizer"})", "Hugging Face"},
      {"#version: 0.2\n\xc4\xa0 t\n", "the merges of a tokenizer of Hugging Face"},
      {"IQ== 0\nIg== 1\n", "tiktoken"}};
  for (const auto& [content, name] : others) {
    const auto path = write_file("other.json", content);
    EXPECT_THAT(
        [&] { make_tokenizer(path); },
        ThrowsMessage<InputError>(AllOf(HasSubstr("other.json is no sentencepiece model, but "),
                                        HasSubstr(name), HasSubstr("numpy.save"))));
  }
}

TEST(TrainSentencePiece, LearnsTheSameTwice) {
  const SentencePieceTokenizer first(train_model("unigram")), second(train_model("unigram"));
  EXPECT_EQ(first.serialized(), second.serialized());
}

TEST(TrainSentencePiece, LearnsFromLongLinesAndSomeOfThem) {
  auto text = sample_text(400);
  std::replace(text.begin(), text.end(), '\n', ' ');
  SentencePieceTrainingOptions options;
  options.input = {write_file("one_line.txt", text)};
  options.output = temporary_folder() + "tokenizer_one_line.model";
  options.vocab_size = 285;
  options.max_lines = 3;
  train_sentencepiece(options);
  EXPECT_EQ(SentencePieceTokenizer(options.output).vocab_size(), 285);
}

/// Lines of code and rows of a table.
std::string spaced_text() {
  std::istringstream lines(sample_text(300));
  std::string text;
  for (std::string line; std::getline(lines, line);) {
    text += line + " {\n    the queen();\n        walked;\n}\n\n";
    text += "night\tsnow\t\tdeep\r\n";
  }
  return text;
}

SentencePieceTrainingOptions spaced_options(const std::string& model_type, bool whitespace_runs) {
  SentencePieceTrainingOptions options;
  options.input = {write_file("spaced.txt", spaced_text())};
  options.output = temporary_folder() + "tokenizer_spaced.model";
  options.vocab_size = 305;
  options.model_type = model_type;
  options.whitespace_runs = whitespace_runs;
  return options;
}

TEST_P(TrainedTokenizer, RunsOfBlanksTabsAndLineEndsAreTokensWhereAskedFor) {
  const auto text = spaced_text();
  std::array<size_t, 2> indented{};
  for (const bool is_asked_for : {false, true}) {
    const auto options = spaced_options(GetParam(), is_asked_for);
    train_sentencepiece(options);
    const SentencePieceTokenizer tokenizer(options.output);
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
    const size_t one = 1;
    EXPECT_EQ(tokenizer.encode("\t\t").size(), is_asked_for ? one : 2);
    EXPECT_EQ(tokenizer.encode("\n\n").size(), is_asked_for ? one : 2);
    EXPECT_EQ(tokenizer.encode("\r\n").size(), is_asked_for ? one : 2);
    EXPECT_EQ(tokenizer.is_piece(tokenizer.encode("\n")[0]), is_asked_for);
    indented[is_asked_for] = tokenizer.encode("\n        walked").size();
  }
  EXPECT_LT(indented[1], indented[0]);
}

TEST_P(TrainedTokenizer, EncodesLongTextsWithRunsAsInOnePiece) {
  const auto options = spaced_options(GetParam(), true);
  train_sentencepiece(options);
  std::string text;
  while (text.size() < 1200000) text += spaced_text();
  EXPECT_EQ(SentencePieceTokenizer(options.output).encode(text),
            encode_in_one_piece(options.output, text));
}

TEST(TrainSentencePiece, TextWithoutRunsGetsNoTokensForThem) {
  SentencePieceTrainingOptions options;
  std::string text;
  for (int i = 0; i < 50; ++i) text += "the king and the queen walked in the snow ";
  options.input = {write_file("one_line.txt", text)};
  options.output = temporary_folder() + "tokenizer_plain.model";
  options.vocab_size = 285;
  options.model_type = "bpe";
  train_sentencepiece(options);
  const SentencePieceTokenizer tokenizer(options.output);
  for (const char* text : {"\n", "\t"})
    EXPECT_FALSE(tokenizer.is_piece(tokenizer.encode(text)[0])) << text;
}

TEST(SentencePieceTokenizer, KnowsTheTokenThatBeginsATextAndPiecesOfText) {
  const SentencePieceTokenizer tokenizer(train_model("bpe"));
  EXPECT_EQ(tokenizer.bos_token(), 1);
  EXPECT_FALSE(tokenizer.is_piece(0));                            // unknown
  EXPECT_FALSE(tokenizer.is_piece(1));                            // <s>
  EXPECT_TRUE(tokenizer.is_piece(299));                           // a word
  EXPECT_FALSE(tokenizer.is_piece(tokenizer.encode("\x01")[0]));  // a byte
}

TEST(TrainSentencePiece, RefusesWhatCannotBeLearnt) {
  SentencePieceTrainingOptions good;
  good.input = {write_file("corpus.txt", sample_text(50))};
  good.output = write_file("kept.model", "as it was");
  const auto refused = [&](auto change, const std::string& part) {
    auto options = good;
    change(options);
    EXPECT_THAT([&] { train_sentencepiece(options); }, ThrowsMessage<InputError>(HasSubstr(part)));
  };
  using Options = SentencePieceTrainingOptions;
  refused([](Options& o) { o.vocab_size = 100000; }, "100000 tokens cannot be learned");
  refused([](Options& o) { o.vocab_size = 259; }, "vocab_size");
  refused([](Options& o) { o.model_type = "word"; }, "'word'");
  refused([](Options& o) { o.input = {}; }, "input");
  refused([](Options& o) { o.input = {"/no/such/file"}; }, "/no/such/file");
  refused([](Options& o) { o.input = {write_file("empty.txt", "\n\n")}; }, "empty.txt");
  refused([](Options& o) { o.input = {write_file("wrong.txt", "ab\xFF")}; }, "byte 2");
  refused([](Options& o) { o.character_coverage = 0; }, "character_coverage");
  refused([](Options& o) { o.threads = 0; }, "threads");
  refused([](Options& o) { o.max_lines = -1; }, "max_lines");
  std::string content;
  std::getline(std::ifstream(good.output), content);
  EXPECT_EQ(content, "as it was");
}

INSTANTIATE_TEST_SUITE_P(ModelTypes, TrainedTokenizer, testing::Values("unigram", "bpe"));

}  // namespace
}  // namespace x_transformers
