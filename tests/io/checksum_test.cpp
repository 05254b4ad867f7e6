#include "x_transformers/io/checksum.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>

namespace x_transformers {
namespace {

std::string checksum_of(std::string_view text) {
  Xxh64 checksum;
  checksum.add(text.data(), text.size());
  return checksum.hex();
}

// By the reference implementation (xxhsum -H64).
TEST(Xxh64, AgreesWithKnownSums) {
  EXPECT_EQ(checksum_of(""), "ef46db3751d8e999");
  EXPECT_EQ(checksum_of("a"), "d24ec4f1a98c6e5b");
  EXPECT_EQ(checksum_of("abc"), "44bc2cf5ad770999");
  EXPECT_EQ(checksum_of("The quick brown fox jumps over the lazy dog"), "0b242d361fda71bc");
}

TEST(Xxh64, PiecesOfAnySizeGiveTheSumOfTheWhole) {
  std::string text;
  for (int i = 0; i < 1000; ++i) text += static_cast<char>(i * 7 % 251);
  for (const std::size_t piece : {1, 3, 8, 31, 32, 33, 64, 500}) {
    Xxh64 checksum;
    for (std::size_t at = 0; at < text.size(); at += piece)
      checksum.add(text.data() + at, std::min(piece, text.size() - at));
    EXPECT_EQ(checksum.hex(), checksum_of(text)) << piece;
  }
}

TEST(Xxh64, EveryByteCounts) {
  const std::string text(100, 'x');
  for (std::size_t at = 0; at < text.size(); ++at) {
    auto changed = text;
    changed[at] = 'y';
    EXPECT_NE(checksum_of(changed), checksum_of(text)) << at;
  }
}

}  // namespace
}  // namespace x_transformers
