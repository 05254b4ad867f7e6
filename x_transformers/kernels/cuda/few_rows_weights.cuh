// How the weights of linear layers of a few rows lie in memory, and what a lane takes of them:
// eight features of an output at a step of 32. They go to shared memory, to a slot of the lane's
// own.
#pragma once

#include "x_transformers/kernels/cuda/device/async_copy.cuh"
#include "x_transformers/kernels/cuda/device/packed.cuh"
#include "x_transformers/kernels/few_rows.h"

namespace x_transformers::kernels::cuda::few_rows {

/// Eight numbers of 16 bits.
struct Eight {
  unsigned pairs[4] = {0, 0, 0, 0};
};

/// As x.
template <class T>
struct PlainWeights {
  using Number = T;
  static constexpr int kSlotBytes = sizeof(Eight);

  static __device__ int64_t row_bytes(const FewRowsOfLayers& call) {
    return call.dim * int{sizeof(T)};
  }
  /// Begins to copy what is from `feature` of a row on into a slot of kSlots, or writes zeros.
  template <int kSlots>
  static __device__ void copy(char* room, int slot, const char* row, int feature, int /*dim*/,
                              bool exists) {
    copy_chunk(room + slot * kSlotBytes, row + int64_t{feature} * int{sizeof(T)}, exists);
  }
  template <int kSlots>
  static __device__ Eight load(const char* room, int slot, int /*feature*/) {
    return *reinterpret_cast<const Eight*>(room + slot * kSlotBytes);
  }
};

/// Quantized rows. What a lane multiplies with are numbers of 16 bits as well: an integer times its
/// scale, rounded.
template <class T, int kBits>
struct QuantizedWeights {
  using Number = T;
  static constexpr int kIntegerBytes = kBits;  ///< of eight
  static constexpr int kSlotBytes = kIntegerBytes + 4;

  static __device__ int64_t row_bytes(const FewRowsOfLayers& call) { return call.weight_row_bytes; }
  /// The scales of two groups are copied, as four bytes is the least.
  template <int kSlots>
  static __device__ void copy(char* room, int slot, const char* row, int feature, int dim,
                              bool exists) {
    copy_bytes<kIntegerBytes>(room + slot * kIntegerBytes, row + feature * kBits / 8, exists);
    copy_bytes<4>(room + kSlots * kIntegerBytes + slot * 4,
                  row + dim * kBits / 8 + feature / (2 * kGroup) * 4, exists);
  }
  template <int kSlots>
  static __device__ Eight load(const char* room, int slot, int feature) {
    const auto scales = reinterpret_cast<const uint32_t*>(room + kSlots * kIntegerBytes)[slot];
    const float scale =
        __uint_as_float(feature / kGroup % 2 == 0 ? scales << 16 : scales & 0xffff0000u);
    const auto* words = reinterpret_cast<const uint32_t*>(room + slot * kIntegerBytes);
    Eight eight;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float first = integer(words, 2 * i), second = integer(words, 2 * i + 1);
      eight.pairs[i] = pair_from_float(first * scale, second * scale, T{});
    }
    return eight;
  }

 private:
  static constexpr int kGroup = static_cast<int>(QuantizedRow::kGroup);

  /// 2^23 plus an integer below 2^8 is a float whose last bits are that integer.
  static __device__ float integer(const uint32_t* words, int i) {
    constexpr float kTwoTo23 = 8388608.0f;
    constexpr uint32_t kBitsOfIt = 0x4b000000u;
    if constexpr (kBits == 8) {
      // As unsigned, 128 more.
      const uint32_t word = words[i / 4] ^ 0x80808080u;
      const uint32_t bits = __byte_perm(word, kBitsOfIt, 0x7440 + i % 4);
      return __uint_as_float(bits) - (kTwoTo23 + 128);
    } else {
      const uint32_t bits = (words[0] >> (4 * i) & 15) | kBitsOfIt;
      return __uint_as_float(bits) - (kTwoTo23 + 8);
    }
  }
};

}  // namespace x_transformers::kernels::cuda::few_rows
