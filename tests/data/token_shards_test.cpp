#include "x_transformers/data/token_shards.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <map>

#include "temporary_folder.h"
#include "x_transformers/core/error.h"
#include "x_transformers/data/token_data.h"
#include "x_transformers/io/atomic_file.h"

namespace x_transformers {
namespace {

using testing::HasSubstr;
namespace fs = std::filesystem;

/// Each byte and the number of the text's words: tokens that depend on all of the document.
class WordsTokenizer : public Tokenizer {
 public:
  std::vector<int64_t> encode(std::string_view text) const override {
    require(text.find('!') == std::string_view::npos, "no exclamations");
    std::vector<int64_t> tokens;
    for (const char byte : text) tokens.push_back(static_cast<unsigned char>(byte));
    if (!text.empty()) tokens.push_back(300 + std::count(text.begin(), text.end(), ' '));
    return tokens;
  }
  std::string token_bytes(int64_t token) const override { return {static_cast<char>(token)}; }
  int64_t vocab_size() const override { return 70000; }  // numbers of four bytes
  std::string name() const override { return "words"; }
  std::optional<int64_t> eos_token() const override { return 69999; }
};

class TokenShardsTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    root_ = fs::path(temporary_folder()) / (std::string("token_shards_") + info->name());
    fs::create_directories(root_ / "text");
    threads_ = at::get_num_threads();
  }
  void TearDown() override { at::set_num_threads(threads_); }

  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(root_ / "text" / name, std::ios::binary) << text;
    return (root_ / "text" / name).string();
  }
  /// A text, lines of JSON with empty ones between, and a text, of some thousand documents.
  void write_many() const {
    write("a.txt", "to be or\nnot to be\n");
    std::string lines = "\xef\xbb\xbf";
    for (int i = 0; i < 3000; ++i) {
      lines += fmt::format(R"({{"id": {}, "text": "document {} {}"}})", i, i,
                           std::string(static_cast<size_t>(i % 97), i % 2 == 0 ? 'x' : ' '));
      lines += i % 3 == 0 ? "\r\n" : i % 5 == 0 ? "\n\n" : "\n";
    }
    write("b.jsonl", lines + R"({"text": ""})");
    write("c.txt", "that is the question");
  }
  TokenShardOptions options(const std::string& out) const {
    TokenShardOptions options;
    options.input = {(root_ / "text").string()};
    options.output = root_ / out;
    options.shard_tokens = 20000;
    return options;
  }
  static std::map<std::string, std::string> files(const fs::path& folder) {
    std::map<std::string, std::string> all;
    for (const auto& entry : fs::directory_iterator(folder))
      all[entry.path().filename().string()] = whole_file(entry.path());
    return all;
  }
  std::string refusal(const TokenShardOptions& options) const {
    try {
      write_token_shards(options, WordsTokenizer());
    } catch (const InputError& error) {
      return error.what();
    }
    return "";
  }

  fs::path root_;
  int threads_ = 1;
};

TEST_F(TokenShardsTest, AreThoseOfTheDocumentsOneAfterTheOther) {
  const WordsTokenizer tokenizer;
  write("a.txt", "a b");
  write("b.jsonl", "{\"text\": \"c\"}\n\n{\"other\": 1, \"text\": \"\\u00e4 \\n d\"}\n");
  auto given = options("out");
  TokenShardContext context;
  context.block_bytes = 1;  // a document at a time
  std::vector<int64_t> bytes;
  context.progress = [&](const TokenShardProgress& progress) { bytes.push_back(progress.bytes); };
  const auto done = write_token_shards(given, tokenizer, context);
  EXPECT_TRUE(done.is_complete);
  // Of the input, with what lines have beside their texts.
  EXPECT_THAT(bytes, testing::ElementsAre(3, 17, 54));
  EXPECT_EQ(done.all_bytes, 54);
  EXPECT_EQ(done.documents, 3);
  DataOptions data;
  data.path = given.output.string();
  data.format = "bin";
  data.seq_len = 2;
  data.val_fraction = 0;
  const auto read = open_data(data, tokenizer.vocab_size()).train;
  std::vector<int64_t> expected;
  for (const std::string text : {"a b", "c", "\u00e4 \n d"}) {
    const auto tokens = tokenizer.encode(text);
    expected.insert(expected.end(), tokens.begin(), tokens.end());
    expected.push_back(69999);
  }
  ASSERT_EQ(read.size(), done.tokens);
  std::vector<int64_t> found(static_cast<size_t>(read.size()));
  read.read(0, read.size(), found.data());
  EXPECT_EQ(found, expected);
}

TEST_F(TokenShardsTest, DoNotDependOnTheThreads) {
  write_many();
  at::set_num_threads(1);
  const auto one = write_token_shards(options("one"), WordsTokenizer());
  at::set_num_threads(4);
  const auto four = write_token_shards(options("four"), WordsTokenizer());
  EXPECT_GT(one.shards, 5);
  EXPECT_EQ(one.documents, 3002);
  EXPECT_EQ(four.tokens, one.tokens);
  EXPECT_EQ(files(root_ / "one"), files(root_ / "four"));
}

TEST_F(TokenShardsTest, GoOnWhereTheyWereStopped) {
  write_many();
  const WordsTokenizer tokenizer;
  write_token_shards(options("whole"), tokenizer);
  const auto expected = files(root_ / "whole");
  const auto given = options("stopped");
  TokenShardContext context;
  context.block_bytes = 30000;
  int calls = 0;
  context.wants_stop = [&] { return ++calls % 2 == 0; };
  TokenShardProgress done;
  int starts = 0;
  for (; !done.is_complete && starts < 100; ++starts) {
    done = write_token_shards(given, tokenizer, context);
    const auto names = files(given.output);
    EXPECT_EQ(std::ssize(names), done.shards + 1) << "a half file is left";
  }
  EXPECT_GT(starts, 3);
  EXPECT_EQ(files(given.output), expected);
  // Complete: nothing is done again.
  calls = 0;
  EXPECT_EQ(write_token_shards(given, tokenizer, context).tokens, done.tokens);
  EXPECT_EQ(calls, 0);
}

TEST_F(TokenShardsTest, GoOnAfterAKill) {
  write_many();
  const WordsTokenizer tokenizer;
  write_token_shards(options("whole"), tokenizer);
  const auto given = options("killed");
  // A child ends in the middle of a file, without a word.
  const auto child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    at::set_num_threads(1);
    TokenShardContext context;
    context.block_bytes = 10000;
    context.progress = [](const TokenShardProgress& progress) {
      if (progress.shards >= 2) std::_Exit(9);
    };
    write_token_shards(given, tokenizer, context);
    std::_Exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_EQ(WEXITSTATUS(status), 9);
  EXPECT_TRUE(fs::exists(given.output / "tokens_000001.bin"));
  write_token_shards(given, tokenizer);
  EXPECT_EQ(files(given.output), files(root_ / "whole"));
}

TEST_F(TokenShardsTest, SaysWhereADocumentIsWrong) {
  const auto given = options("out");
  write("a.jsonl", "{\"text\": \"a\"}\n\n{\"txt\": \"a\"}\n");
  EXPECT_THAT(refusal(given), HasSubstr("a.jsonl: line 3: has no 'text'; the nearest known one is "
                                        "'txt'"));
  write("a.jsonl", "{\"text\": \"a\"}\n{\"text\": 3}\n{");
  EXPECT_THAT(refusal(given), HasSubstr("a.jsonl: line 2: text: expected text, got 3"));
  write("a.jsonl", "{\"text\": \"a\"}\nnothing\n");
  EXPECT_THAT(refusal(given), HasSubstr("a.jsonl: line 2: is no JSON"));
  write("a.jsonl", "{\"text\": \"oh!\"}\n");
  EXPECT_THAT(refusal(given), HasSubstr("a.jsonl: line 1: no exclamations"));
  write("a.jsonl", "{\"text\": \"\"}\n");
  EXPECT_THAT(refusal(given), HasSubstr(": no text, nothing to encode"));
}

TEST_F(TokenShardsTest, RefusesAFolderOfOtherTokens) {
  write("a.txt", "a b");
  auto given = options("out");
  EXPECT_EQ(refusal(given), "");
  given.separator = 3;
  EXPECT_THAT(refusal(given), HasSubstr("holds token files with another separator"));
  given = options("out");
  write("a.txt", "a c");
  EXPECT_THAT(refusal(given), HasSubstr("holds token files with another input"));
  given.output = root_ / "mine";
  fs::create_directories(given.output);
  std::ofstream(given.output / "train.bin") << "x";
  EXPECT_THAT(refusal(given), HasSubstr("train.bin) that are not of this command"));
}

}  // namespace
}  // namespace x_transformers
