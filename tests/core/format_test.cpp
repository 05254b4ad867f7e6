#include "x_transformers/core/format.h"

#include <gtest/gtest.h>

#include <limits>

namespace x_transformers {
namespace {

TEST(FormatCount, HasAtMostThreeDigits) {
  EXPECT_EQ(format_count(0), "0");
  EXPECT_EQ(format_count(7), "7");
  EXPECT_EQ(format_count(7.25), "7.2");
  EXPECT_EQ(format_count(999), "999");
  EXPECT_EQ(format_count(999.6), "1.0k");
  EXPECT_EQ(format_count(1000), "1.0k");
  EXPECT_EQ(format_count(1234), "1.2k");
  EXPECT_EQ(format_count(99960), "100k");
  EXPECT_EQ(format_count(345678), "346k");
  EXPECT_EQ(format_count(999999), "1.0M");
  EXPECT_EQ(format_count(2.5e9), "2.5G");
  EXPECT_EQ(format_count(-1500), "-1.5k");
  EXPECT_EQ(format_count(std::numeric_limits<double>::infinity()), "inf");
}

TEST(HowMany, HasTheNounInItsNumber) {
  EXPECT_EQ(how_many(0, "step"), "0 steps");
  EXPECT_EQ(how_many(1, "step"), "1 step");
  EXPECT_EQ(how_many(2, "step"), "2 steps");
  EXPECT_EQ(how_many(1, "process"), "1 process");
  EXPECT_EQ(how_many(12, "process"), "12 processes");
}

TEST(FormatBytes, CountsInThousands) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(512), "512 B");
  EXPECT_EQ(format_bytes(1200000000), "1.2 GB");
  EXPECT_EQ(format_bytes(80'000'000'000), "80.0 GB");
}

}  // namespace
}  // namespace x_transformers
