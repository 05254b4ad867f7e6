#include "x_transformers/core/utf8.h"

#include <gtest/gtest.h>

namespace x_transformers {
namespace {

TEST(FindInvalidUtf8, NamesTheFirstWrongByte) {
  EXPECT_EQ(find_invalid_utf8(""), std::nullopt);
  EXPECT_EQ(find_invalid_utf8("plain"), std::nullopt);
  EXPECT_EQ(find_invalid_utf8("\u00e9\u20ac\U0001F600"), std::nullopt);
  EXPECT_EQ(find_invalid_utf8("\xED\x9F\xBF\xF4\x8F\xBF\xBF"), std::nullopt);
  EXPECT_EQ(find_invalid_utf8("ab\x80"), 2u);            // no lead byte
  EXPECT_EQ(find_invalid_utf8("ab\xE2\x82"), 2u);        // cut off
  EXPECT_EQ(find_invalid_utf8("\xE2\x82z"), 0u);         // interrupted
  EXPECT_EQ(find_invalid_utf8("a\xC0\x80"), 1u);         // overlong
  EXPECT_EQ(find_invalid_utf8("a\xE0\x9F\x80"), 1u);     // overlong
  EXPECT_EQ(find_invalid_utf8("\xF0\x8F\xBF\xBF"), 0u);  // overlong
  EXPECT_EQ(find_invalid_utf8("\xED\xA0\x80"), 0u);      // surrogate
  EXPECT_EQ(find_invalid_utf8("\xF4\x90\x80\x80"), 0u);  // above U+10FFFF
  EXPECT_EQ(find_invalid_utf8("\xFF"), 0u);
}

}  // namespace
}  // namespace x_transformers
