#include "x_transformers/data/lost_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

namespace x_transformers {
namespace {

using testing::AllOf;
using testing::HasSubstr;

/// Bytes, of which runs of blanks, tabs and line ends become one blank, as in vocabularies that
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

FileContents file_of(const std::string& bytes) {
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
  EXPECT_EQ(lost.blanks, 0);  // three are left of three, in other places
  EXPECT_EQ(lost.others, 0);
  EXPECT_EQ(lost_text("a     b", OrdinaryTokenizer()).blanks, 4);
}

TEST(LostText, ACharacterIsOneHoweverManyBytesItHas) {
  const auto lost = lost_text("\u00e9\u20ac", ByteTokenizer());
  EXPECT_EQ(lost.characters, 2);
}

TEST(LostText, ASampleIsOfAllFiles) {
  std::string plain, lines;
  while (plain.size() < 900000) plain += "plain text ";
  while (lines.size() < 900000) lines += "one line\n";
  const auto lost = lost_of_sample({file_of(plain), file_of(lines)}, OrdinaryTokenizer());
  EXPECT_GT(lost.characters, 300000);
  EXPECT_LT(lost.characters, 900000);
  const auto share = static_cast<double>(lost.line_ends) / static_cast<double>(lost.characters);
  EXPECT_NEAR(share, 1.0 / 9 / 2, 0.01);
}

TEST(LostText, ASmallTextIsLookedAtWhole) {
  const auto lost =
      lost_of_sample({file_of("a\nb\n"), file_of(""), file_of("c\t")}, OrdinaryTokenizer());
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

}  // namespace
}  // namespace x_transformers
