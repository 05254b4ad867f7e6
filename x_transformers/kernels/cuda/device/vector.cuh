// Numbers of 16 or 32 bits, kSize at a time, as float32.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace x_transformers::kernels::cuda {

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ inline float to_float(__half x) { return __half2float(x); }

template <class T>
__device__ T from_float(float x);
template <>
__device__ inline float from_float<float>(float x) {
  return x;
}
template <>
__device__ inline __nv_bfloat16 from_float<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}
template <>
__device__ inline __half from_float<__half>(float x) {
  return __float2half_rn(x);
}

/// kSize numbers side by side in memory, read and written at once; at most 16 bytes, to which the
/// address is aligned.
template <class T, int kSize>
struct alignas(sizeof(T) * kSize <= 16 ? sizeof(T) * kSize : 16) Vector {
  T values[kSize];

  __device__ static Vector load(const T* memory) {
    return *reinterpret_cast<const Vector*>(memory);
  }
  __device__ void store(T* memory) const { *reinterpret_cast<Vector*>(memory) = *this; }
};

}  // namespace x_transformers::kernels::cuda
