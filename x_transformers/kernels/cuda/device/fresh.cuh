// Reads of what an earlier kernel wrote, past the first level of the cache, which may be older. The
// compiler leaves them where they are, which it need not do with __ldcg of 16 bits: none is made
// before the condition that guards it.
#pragma once

#include "x_transformers/kernels/cuda/device/vector.cuh"

namespace x_transformers::kernels::cuda {

__device__ inline float load_fresh(const float* memory) {
  float x;
  asm volatile("ld.global.cg.f32 %0, [%1];" : "=f"(x) : "l"(memory));
  return x;
}
template <class T>
__device__ T load_fresh(const T* memory) {
  static_assert(sizeof(T) == 2);
  uint16_t bits;
  asm volatile("ld.global.cg.u16 %0, [%1];" : "=h"(bits) : "l"(memory));
  return *reinterpret_cast<const T*>(&bits);
}
__device__ inline bool load_fresh(const bool* memory) {
  uint32_t bits;
  asm volatile("ld.global.cg.u8 %0, [%1];" : "=r"(bits) : "l"(memory));
  return bits != 0;
}

/// 16 bytes, to which the address is aligned.
__device__ inline uint4 load_fresh_words(const void* memory) {
  return __ldcg(static_cast<const uint4*>(memory));
}

}  // namespace x_transformers::kernels::cuda
