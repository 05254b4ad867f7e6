#include "x_transformers/data/token_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <fstream>
#include <set>
#include <thread>

#include "temporary_folder.h"
#include "x_transformers/core/error.h"
#include "x_transformers/data/token_data.h"

namespace x_transformers {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;
namespace fs = std::filesystem;

/// Adds a number to every byte, and counts its calls.
class ShiftTokenizer : public Tokenizer {
 public:
  explicit ShiftTokenizer(int64_t shift, int64_t vocab_size = 1000)
      : shift_(shift), vocab_size_(vocab_size) {}
  std::vector<int64_t> encode(std::string_view text) const override {
    ++calls;
    require(text.find('!') == std::string_view::npos, "no exclamations");
    std::vector<int64_t> tokens;
    for (const char byte : text) tokens.push_back(byte + shift_);
    return tokens;
  }
  std::string token_bytes(int64_t token) const override {
    return {static_cast<char>(token - shift_)};
  }
  int64_t vocab_size() const override { return vocab_size_; }
  std::string name() const override { return "shift"; }
  std::string serialized() const override { return std::to_string(shift_); }

  mutable int calls = 0;

 private:
  int64_t shift_, vocab_size_;
};

class TokenCacheTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    root_ = fs::path(temporary_folder()) / (std::string("token_cache_") + info->name());
    fs::create_directories(root_);
  }
  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(root_ / name, std::ios::binary) << text;
    return (root_ / name).string();
  }
  std::vector<int64_t> read(const std::vector<std::string>& files,
                            const Tokenizer& tokenizer) const {
    const TokenDataset data(encode_files(files, tokenizer, root_ / "tokens"),
                            tokenizer.vocab_size());
    std::vector<int64_t> tokens(static_cast<size_t>(data.size()));
    data.read(0, data.size(), tokens.data());
    return tokens;
  }
  std::vector<fs::path> kept(const std::string& ending = ".bin") const {
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(root_ / "tokens"))
      if (entry.path().extension() == ending) files.push_back(entry.path());
    return files;
  }

  fs::path root_;
};

TEST_F(TokenCacheTest, TheSecondTimeNothingIsEncoded) {
  const std::vector<std::string> files{write("a", "ab"), write("b", "c")};
  for (const int64_t vocab_size : {1000, 100000}) {  // tokens of 2 and of 4 bytes
    const ShiftTokenizer tokenizer(vocab_size / 2, vocab_size);
    const int64_t a = 'a' + vocab_size / 2;
    EXPECT_THAT(read(files, tokenizer), ElementsAre(a, a + 1, a + 2));
    EXPECT_EQ(tokenizer.calls, 2);
    EXPECT_THAT(read(files, tokenizer), ElementsAre(a, a + 1, a + 2));
    EXPECT_EQ(tokenizer.calls, 2);
  }
}

TEST_F(TokenCacheTest, FilesThatNobodyHasChangedAreNotRead) {
  const ShiftTokenizer tokenizer(1);
  const auto age = [](const std::string& file) {
    fs::last_write_time(file, fs::file_time_type::clock::now() - std::chrono::hours(1));
  };
  const auto a = write("a", "ab"), b = write("b", "xy");
  EXPECT_THAT(read({a}, tokenizer), ElementsAre('b', 'c'));
  EXPECT_THAT(kept(".seen"), testing::IsEmpty());  // it may have been changed a moment ago
  age(a);
  read({a}, tokenizer);
  ASSERT_EQ(kept(".seen").size(), 1U);
  EXPECT_EQ(tokenizer.calls, 1);
  // What the note names is taken for the tokens of the file: of it nothing is read.
  read({b}, tokenizer);
  const auto of_a = fs::path(kept(".seen")[0]);
  std::set<int64_t> first;
  for (const auto& tokens : kept()) {
    std::ofstream(of_a) << tokens.filename().string() << "\n";
    first.insert(read({a}, tokenizer).front());
  }
  EXPECT_THAT(first, ElementsAre('b', 'y'));
  // Changed, and with the time that it had: it is read.
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  write("a", "cd");
  age(a);
  EXPECT_THAT(read({a}, tokenizer), ElementsAre('d', 'e'));
}

TEST_F(TokenCacheTest, OtherTextsAndVocabulariesAreEncoded) {
  const ShiftTokenizer one(1), two(2);
  EXPECT_THAT(read({write("a", "ab")}, one), ElementsAre('b', 'c'));
  EXPECT_THAT(read({write("a", "ab")}, two), ElementsAre('c', 'd'));
  EXPECT_THAT(read({write("a", "aa")}, one), ElementsAre('b', 'b'));
  EXPECT_THAT(read({write("a", "a"), write("b", "a")}, one), ElementsAre('b', 'b'));
  EXPECT_EQ(one.calls, 4);
  EXPECT_EQ(kept().size(), 4u);
}

TEST_F(TokenCacheTest, AKeptFileIsTrainingDataToo) {
  read({write("a", "abc")}, ShiftTokenizer(100));
  DataOptions options;
  options.path = (root_ / "tokens").string();
  options.seq_len = 1;
  options.val_fraction = 0;
  const auto data = open_data(options, 1000);
  EXPECT_EQ(data.train.size(), 3);
  EXPECT_EQ(data.train.read(2, 1).item<int64_t>(), 'c' + 100);
}

TEST_F(TokenCacheTest, ADamagedFileIsReplaced) {
  const auto file = write("a", "abc");
  const ShiftTokenizer tokenizer(1);
  read({file}, tokenizer);
  fs::resize_file(kept().at(0), 1027);
  EXPECT_THAT(read({file}, tokenizer), ElementsAre('b', 'c', 'd'));
  EXPECT_EQ(tokenizer.calls, 2);
  EXPECT_EQ(fs::file_size(kept().at(0)), 1030u);
}

TEST_F(TokenCacheTest, AFolderThatCannotBeWrittenIsDoneWithout) {
  write("tokens", "a file");
  const ShiftTokenizer tokenizer(1);
  EXPECT_THAT(read({write("a", "ab")}, tokenizer), ElementsAre('b', 'c'));
}

TEST_F(TokenCacheTest, NamesTheFileThatIsNotText) {
  const auto good = write("good", "ab"), bad = write("bad", "ab!");
  EXPECT_THAT(
      [&] {
        read({good, bad}, ShiftTokenizer(1));
      },
      ThrowsMessage<InputError>(HasSubstr(bad + ": no exclamations")));
}

}  // namespace
}  // namespace x_transformers
