// Random numbers without a state: the k-th one is computed from the seed and k.
#pragma once

#include <bit>
#include <cstdint>

namespace x_transformers {

/// Stirs 64 bits so that every bit of the result depends on all of them (the finalizer of
/// SplitMix64, Steele et al., OOPSLA 2014). One to one.
constexpr uint64_t mix_bits(uint64_t bits) {
  bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9u;
  bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EBu;
  return bits ^ (bits >> 31);
}

/// The `counter`-th random number of `seed`.
constexpr uint64_t random_bits(uint64_t seed, uint64_t counter) {
  constexpr uint64_t kGolden = 0x9E3779B97F4A7C15u;
  return mix_bits(mix_bits(seed + kGolden) + (counter + 1) * kGolden);
}

/// Random bits as a number below `size`.
constexpr uint64_t random_index(uint64_t bits, uint64_t size) {
  return static_cast<uint64_t>((static_cast<unsigned __int128>(bits) * size) >> 64);
}

/// Where `index` goes in a permutation of 0 .. size - 1 that `key` names: a Feistel network over
/// the next even number of bits, walked until it lands below `size` (Black and Rogaway, CT-RSA
/// 2002). Needs index < size.
constexpr uint64_t permuted_index(uint64_t index, uint64_t size, uint64_t key) {
  constexpr uint64_t kRounds = 6;
  const int half = (std::bit_width(size - 1) + 1) / 2;
  const uint64_t mask = (uint64_t{1} << half) - 1;
  do {
    uint64_t left = index >> half, right = index & mask;
    for (uint64_t round = 0; round < kRounds; ++round) {
      const uint64_t next = left ^ (random_bits(key ^ right, round) & mask);
      left = right;
      right = next;
    }
    index = left << half | right;
  } while (index >= size);
  return index;
}

}  // namespace x_transformers
