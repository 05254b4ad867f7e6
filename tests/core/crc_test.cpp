#include "x_transformers/core/crc.h"

#include <gtest/gtest.h>

#include <string>

namespace x_transformers {
namespace {

// RFC 3720, B.4, and the check values of the CRC catalogue.
TEST(Crc, AgreesWithKnownSums) {
  EXPECT_EQ(crc_of<kCrc32>(""), 0u);
  EXPECT_EQ(crc_of<kCrc32>("123456789"), 0xCBF43926u);
  EXPECT_EQ(crc_of<kCrc32c>(""), 0u);
  EXPECT_EQ(crc_of<kCrc32c>("123456789"), 0xE3069283u);
  EXPECT_EQ(crc_of<kCrc32c>(std::string(32, '\0')), 0x8A9136AAu);
  EXPECT_EQ(crc_of<kCrc32c>(std::string(32, '\xFF')), 0x62A8AB43u);
  std::string rising(32, '\0');
  for (int i = 0; i < 32; ++i) rising[static_cast<size_t>(i)] = static_cast<char>(i);
  EXPECT_EQ(crc_of<kCrc32c>(rising), 0x46DD794Eu);
}

}  // namespace
}  // namespace x_transformers
