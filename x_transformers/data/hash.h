// Hashes by which a run knows its data again.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "x_transformers/data/random.h"

namespace x_transformers {

/// Goes on from `hash` with all of `bytes` and their number.
inline uint64_t hash_bytes(uint64_t hash, std::string_view bytes) {
  hash = mix_bits(hash ^ bytes.size());
  while (!bytes.empty()) {
    uint64_t word = 0;
    const auto size = std::min(bytes.size(), sizeof word);
    std::memcpy(&word, bytes.data(), size);
    hash = mix_bits(hash ^ word);
    bytes.remove_prefix(size);
  }
  return hash;
}

}  // namespace x_transformers
