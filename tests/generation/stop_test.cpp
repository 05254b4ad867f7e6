#include "x_transformers/generation/stop.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "x_transformers/core/error.h"

namespace x_transformers::stop_test {
namespace {

TEST(StopStrings, PassesTextWithoutStopStrings) {
  StopStrings stop({});
  EXPECT_EQ(stop.push("any text"), "any text");
  EXPECT_FALSE(stop.stopped());
}

TEST(StopStrings, EndsBeforeTheStopString) {
  StopStrings stop({"END"});
  EXPECT_EQ(stop.push("one END two"), "one ");
  EXPECT_TRUE(stop.stopped());
  EXPECT_EQ(stop.push("three"), "");
  EXPECT_EQ(stop.finish(), "");
}

TEST(StopStrings, HoldsBackWhatMayBeItsStart) {
  StopStrings stop({"END"});
  EXPECT_EQ(stop.push("the E"), "the ");
  EXPECT_EQ(stop.push("N"), "");
  EXPECT_EQ(stop.push("V EN"), "ENV ");
  EXPECT_EQ(stop.push("D!"), "");
  EXPECT_TRUE(stop.stopped());
}

TEST(StopStrings, FinishGivesWhatWasHeldBack) {
  StopStrings stop({"END"});
  EXPECT_EQ(stop.push("the EN"), "the ");
  EXPECT_EQ(stop.finish(), "EN");
  EXPECT_FALSE(stop.stopped());
}

TEST(StopStrings, FindsOverlappingStarts) {
  StopStrings stop({"aab"});
  EXPECT_EQ(stop.push("aaa"), "a");
  EXPECT_EQ(stop.push("b"), "");
  EXPECT_TRUE(stop.stopped());
}

TEST(StopStrings, TheCutMakesNoDifference) {
  const std::string text =
      "abc abca bcab xabcd \xc3\xa9"
      "abcaby";
  const std::vector<std::vector<std::string>> lists = {
      {"bcab x"}, {"abcd", "bc"}, {"caby", "aby"}, {"zz"}, {"\xc3\xa9"}};
  for (const auto& list : lists) {
    StopStrings whole(list);
    std::string expected = whole.push(text);
    expected += whole.finish();
    for (size_t size = 1; size < 6; ++size) {
      StopStrings stop(list);
      std::string shown;
      for (size_t i = 0; i < text.size(); i += size)
        shown += stop.push(std::string_view(text).substr(i, size));
      shown += stop.finish();
      EXPECT_EQ(shown, expected) << list[0] << " in pieces of " << size;
      EXPECT_EQ(stop.stopped(), whole.stopped());
    }
  }
}

TEST(StopStrings, TheLongestCountsWhereTwoEndTogether) {
  StopStrings stop({"b", "ab"});
  EXPECT_EQ(stop.push("xab"), "x");
}

TEST(StopStrings, RefusesAnEmptyOne) { EXPECT_THROW(StopStrings({"a", ""}), InputError); }

}  // namespace
}  // namespace x_transformers::stop_test
