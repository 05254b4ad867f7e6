// Cyclic redundancy checks of 32 bits, as file formats have them.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace x_transformers {

/// Polynomials, bits in reverse.
inline constexpr uint32_t kCrc32 = 0xEDB88320;   ///< ISO 3309: PNG
inline constexpr uint32_t kCrc32c = 0x82F63B78;  ///< Castagnoli, RFC 3720: TensorFlow's records

namespace detail {

/// What is left of each byte by the polynomial.
template <uint32_t polynomial>
constexpr std::array<uint32_t, 256> crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < table.size(); ++byte) {
    uint32_t rest = byte;
    for (int bit = 0; bit < 8; ++bit) rest = (rest >> 1) ^ ((rest & 1) != 0 ? polynomial : 0);
    table[byte] = rest;
  }
  return table;
}

}  // namespace detail

/// The checksum of `bytes` by the polynomial.
template <uint32_t polynomial>
uint32_t crc_of(std::string_view bytes) {
  static constexpr auto kTable = detail::crc_table<polynomial>();
  uint32_t rest = ~uint32_t{0};
  for (const char c : bytes) rest = (rest >> 8) ^ kTable[(rest ^ static_cast<uint8_t>(c)) & 0xFF];
  return ~rest;
}

}  // namespace x_transformers
