// Numbers held in registers as they lie in memory, two of 16 bits to a register, until they are
// computed with: for kernels that have many loads under way.
#pragma once

#include "x_transformers/kernels/cuda/device/vector.cuh"

namespace x_transformers::kernels::cuda {

__device__ inline float2 pair_to_float(uint32_t word, __nv_bfloat16) {
  return {__uint_as_float(word << 16), __uint_as_float(word & 0xffff0000u)};
}
__device__ inline float2 pair_to_float(uint32_t word, __half) {
  return __half22float2(*reinterpret_cast<const __half2*>(&word));
}
__device__ inline uint32_t pair_from_float(float a, float b, __nv_bfloat16) {
  const auto pair = __floats2bfloat162_rn(a, b);
  return *reinterpret_cast<const uint32_t*>(&pair);
}
__device__ inline uint32_t pair_from_float(float a, float b, __half) {
  const auto pair = __floats2half2_rn(a, b);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

/// kSize numbers side by side: 16 bytes, to which the address is aligned, or one number.
template <class T, int kSize>
struct Packed {
  static_assert(kSize == 1 || sizeof(T) * kSize == 16);
  uint4 words;

  __device__ static Packed load(const T* memory) {
    return {*reinterpret_cast<const uint4*>(memory)};
  }
  /// Zeros, where `is_there` is not so.
  __device__ static Packed load_if(bool is_there, const T* memory) {
    return is_there ? load(memory) : Packed{};
  }
  __device__ void store(T* memory) const { __stcg(reinterpret_cast<uint4*>(memory), words); }

  __device__ void unpack(float (&values)[kSize]) const {
    const uint32_t all[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if constexpr (sizeof(T) == 4) {
        values[i] = __uint_as_float(all[i]);
      } else {
        const auto pair = pair_to_float(all[i], T{});
        values[2 * i] = pair.x;
        values[2 * i + 1] = pair.y;
      }
    }
  }
  __device__ static Packed pack(const float (&values)[kSize]) {
    uint32_t all[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if constexpr (sizeof(T) == 4) {
        all[i] = __float_as_uint(values[i]);
      } else {
        all[i] = pair_from_float(values[2 * i], values[2 * i + 1], T{});
      }
    }
    return {{all[0], all[1], all[2], all[3]}};
  }
};

template <class T>
struct Packed<T, 1> {
  float value;

  __device__ static Packed load(const T* memory) { return {to_float(*memory)}; }
  __device__ static Packed load_if(bool is_there, const T* memory) {
    return is_there ? load(memory) : Packed{};
  }
  __device__ void store(T* memory) const { *memory = from_float<T>(value); }
  __device__ void unpack(float (&values)[1]) const { values[0] = value; }
  __device__ static Packed pack(const float (&values)[1]) { return {values[0]}; }
};

}  // namespace x_transformers::kernels::cuda
