#include "x_transformers/data/lost_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "x_transformers/data/examples.h"

namespace x_transformers {
namespace {

using testing::AllOf;
using testing::HasSubstr;

/// Bytes, of which runs of spaces, tabs and line ends become one space, as in vocabularies that
/// sentencepiece makes by default.
class OrdinaryTokenizer : public ByteTokenizer {
 public:
  std::vector<int64_t> encode(std::string_view text) const override {
    std::string kept;
    for (const char c : text) {
      const bool is_space = c == ' ' || c == '\t' || c == '\n';
      if (!is_space) {
        kept += c;
      } else if (!kept.empty() && !kept.ends_with(' ')) {
        kept += ' ';
      }
    }
    if (kept.ends_with(' ')) kept.pop_back();
    return ByteTokenizer::encode(kept);
  }
};

FileContents contents_of(const std::string& bytes) {
  const auto owner = std::make_shared<const std::string>(bytes);
  return {owner, *owner, "a.txt"};
}

TEST(LostText, BytesLoseNothing) {
  const auto lost = lost_text("a\t b\n\xff", ByteTokenizer());
  EXPECT_EQ(lost.characters, 6);
  EXPECT_EQ(lost.lost(), 0);
  EXPECT_FALSE(notice_of(lost));
}

TEST(LostText, CountsWhatDoesNotComeBack) {
  const auto lost = lost_text("ab\tc   d\n\ne", OrdinaryTokenizer());
  EXPECT_EQ(lost.characters, 11);
  EXPECT_EQ(lost.line_ends, 2);
  EXPECT_EQ(lost.tabs, 1);
  EXPECT_EQ(lost.spaces, 0);  // three are left of three, in other places
  EXPECT_EQ(lost.others, 0);
  EXPECT_EQ(lost_text("a     b", OrdinaryTokenizer()).spaces, 4);
}

TEST(LostText, ACharacterIsOneHoweverManyBytesItHas) {
  const auto lost = lost_text("\u00e9\u20ac", ByteTokenizer());
  EXPECT_EQ(lost.characters, 2);
}

TEST(LostText, ASampleIsOfAllFiles) {
  std::string plain, lines;
  while (plain.size() < 900000) plain += "plain text ";
  while (lines.size() < 900000) lines += "one line\n";
  const auto lost = lost_of_sample({contents_of(plain), contents_of(lines)}, OrdinaryTokenizer());
  EXPECT_GT(lost.characters, 300000);
  EXPECT_LT(lost.characters, 900000);
  const auto share = static_cast<double>(lost.line_ends) / static_cast<double>(lost.characters);
  EXPECT_NEAR(share, 1.0 / 9 / 2, 0.01);
}

TEST(LostText, ASmallTextIsLookedAtWhole) {
  const auto lost = lost_of_sample({contents_of("a\nb\n"), contents_of(""), contents_of("c\t")},
                                   OrdinaryTokenizer());
  EXPECT_EQ(lost.characters, 6);
}

TEST(LostText, TheNoticeNamesTheOptionTheSharesAndTheWayOut) {
  LostText lost;
  lost.characters = 10000;
  lost.line_ends = 300;
  lost.others = 1;
  EXPECT_THAT(notice_of(lost).value().line(),
              AllOf(HasSubstr("data.tokenizer: 3.0% of the characters do not come back"),
                    HasSubstr("(line ends 3.0%, others less than 0.1%)"),
                    HasSubstr("x-transformers tokenizer train"),
                    HasSubstr("remove_extra_whitespaces=false")));
}

/// Bytes, of which sentencepiece's sign of a blank becomes one, as in every vocabulary of it.
class MarkTokenizer : public ByteTokenizer {
 public:
  std::vector<int64_t> encode(std::string_view text) const override {
    std::string kept(text);
    for (auto found = kept.find(kSpaceMark); found != std::string::npos;
         found = kept.find(kSpaceMark))
      kept.replace(found, kSpaceMark.size(), " ");
    return ByteTokenizer::encode(kept);
  }
};

TEST(LostText, SaysOfASignOfABlankThatNoVocabularyKeepsIt) {
  const auto lost = lost_text("a\u2581b c", MarkTokenizer());
  EXPECT_EQ(lost.marks, 1);
  EXPECT_EQ(lost.lost(), 1);
  const auto line = notice_of(lost).value().line();
  EXPECT_THAT(line, AllOf(HasSubstr("(\u2581 20.0%)"), HasSubstr("comes back as one")));
  EXPECT_THAT(line, testing::Not(HasSubstr("tokenizer train")));
  auto both = lost;
  both.tabs = 1;
  EXPECT_THAT(notice_of(both).value().line(),
              AllOf(HasSubstr("tabs 20.0%"), HasSubstr("keeps all of them but \u2581")));
}

/// The same by another name, since bytes lose nothing and are not looked at.
class NamedTokenizer : public OrdinaryTokenizer {
 public:
  std::string name() const override { return "ordinary"; }
};

class LostOfExamplesTest : public testing::Test {
 protected:
  LostOfExamplesTest()
      : path_(std::filesystem::path(testing::TempDir()) /
              (std::string("lost_") +
               testing::UnitTest::GetInstance()->current_test_info()->name())) {}
  ~LostOfExamplesTest() override { std::filesystem::remove(path_); }

  std::string write(const std::string& text) const {
    std::ofstream(path_, std::ios::binary) << text;
    return path_.string();
  }
  static DataOptions options(const std::string& path, const std::string& format) {
    DataOptions given;
    given.path = path;
    given.format = format;
    given.val_fraction = 0.5;
    return given;
  }

  std::filesystem::path path_;
};

TEST_F(LostOfExamplesTest, PairsSayWhatTheirTextsLose) {
  const auto path = write("a   b\tc\nd\te    f\n");
  const auto lost = open_pair_examples(options(path, "pairs"), NamedTokenizer());
  ASSERT_EQ(lost.warnings.size(), 1U);
  // The tab between the columns and the line ends belong to no text.
  EXPECT_THAT(lost.warnings[0].line(), AllOf(HasSubstr("data.tokenizer"), HasSubstr("(spaces")));
  EXPECT_TRUE(open_pair_examples(options(path, "pairs"), ByteTokenizer()).warnings.empty());
  const auto kept = write("a b\tc\nd\te f\n");
  EXPECT_TRUE(open_pair_examples(options(kept, "pairs"), NamedTokenizer()).warnings.empty());
}

TEST_F(LostOfExamplesTest, PreferencesSayWhatTheirTextsLose) {
  const auto path = write(R"({"prompt": "a\nb", "chosen": "c", "rejected": "d"})"
                          "\n"
                          R"({"prompt": "a", "chosen": "c\td", "rejected": "d"})"
                          "\n");
  const auto lost = open_preference_examples(options(path, "preferences"), NamedTokenizer());
  ASSERT_EQ(lost.warnings.size(), 1U);
  EXPECT_THAT(lost.warnings[0].line(), AllOf(HasSubstr("line ends"), HasSubstr("tabs")));
}

TEST_F(LostOfExamplesTest, ALongFileIsSampledAllOverIt) {
  std::string text;
  for (int i = 0; i < 120000; ++i)
    text += i < 90000 ? "the same line\tand its other\n" : "a   b\tc\n";
  const NamedTokenizer tokenizer;
  LostOfLines sample(write(text), tokenizer);
  for (int i = 0; i < 120000; ++i)
    i < 90000 ? sample.add({"the same line", "and its other"}) : sample.add({"a   b", "c"});
  EXPECT_GT(sample.lost().spaces, 0);
  EXPECT_LT(sample.lost().characters, 700000);
}

}  // namespace
}  // namespace x_transformers
