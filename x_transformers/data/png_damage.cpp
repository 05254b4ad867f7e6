#include "x_transformers/data/png_damage.h"

#include <fmt/format.h>

#include <cctype>
#include <cstddef>
#include <cstdint>

#include "x_transformers/core/crc.h"

namespace x_transformers {
namespace {

/// The first four bytes as a number, the most significant one first.
uint32_t big_endian(std::string_view bytes) {
  uint32_t number = 0;
  for (size_t i = 0; i < sizeof number; ++i) number = number << 8 | static_cast<uint8_t>(bytes[i]);
  return number;
}

bool is_chunk_type(std::string_view type) {
  for (const char c : type)
    if (std::isalpha(static_cast<unsigned char>(c)) == 0) return false;
  return true;
}

}  // namespace

std::string png_damage(std::string_view bytes) {
  constexpr std::string_view kSignature = "\x89PNG\r\n\x1a\n";
  constexpr size_t kLength = 4, kType = 4, kChecksum = 4;
  if (!bytes.starts_with(kSignature)) return {};
  for (size_t begin = kSignature.size();;) {
    if (bytes.size() - begin < kLength + kType) return "it ends before its chunk IEND";
    const size_t length = big_endian(bytes.substr(begin));
    const auto type = bytes.substr(begin + kLength, kType);
    if (!is_chunk_type(type)) return fmt::format("no chunk begins at byte {}", begin);
    if (bytes.size() - begin - kLength - kType < length + kChecksum)
      return fmt::format("it ends within its chunk {}", type);
    const auto content = bytes.substr(begin + kLength, kType + length);
    begin += kLength + content.size();
    if (big_endian(bytes.substr(begin)) != crc_of<kCrc32>(content))
      return fmt::format("the checksum of its chunk {} is of other bytes", type);
    begin += kChecksum;
    if (type == "IEND") return {};
  }
}

}  // namespace x_transformers
