// A checksum by which a file's bytes are known again.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace x_transformers {

/// XXH64 with seed 0 (https://github.com/Cyan4973/xxHash, doc/xxhash_spec.md) of bytes that come in
/// pieces; as fast as memory is read. It detects damage, not tampering.
class Xxh64 {
 public:
  Xxh64();
  /// Goes on with `bytes` bytes from `data`.
  void add(const void* data, std::size_t bytes);
  /// The checksum of all bytes so far.
  std::uint64_t value() const;
  /// The same as 16 hexadecimal digits.
  std::string hex() const;

 private:
  static constexpr std::size_t kStripe = 32;

  void mix(const unsigned char* stripe);

  std::array<std::uint64_t, 4> lanes_;
  std::array<unsigned char, kStripe> pending_{};
  std::size_t pending_size_ = 0;
  std::uint64_t total_ = 0;
};

}  // namespace x_transformers
