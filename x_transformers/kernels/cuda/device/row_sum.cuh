// Sums over the threads that share a row.
#pragma once

namespace x_transformers::kernels::cuda {

constexpr int kWarp = 32;

__device__ inline float warp_sum(float x) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2)
    x += __shfl_xor_sync(0xffffffffu, x, offset);
  return x;
}

/// The sum over threadIdx.x, in every thread. Rows of one warp need no other thread; with more,
/// blockDim.y is 1 and all threads of the block call it. `room` is shared memory of a float for
/// each warp.
__device__ inline float row_sum(float x, float* room) {
  x = warp_sum(x);
  const int warps = blockDim.x / kWarp;
  if (warps == 1) return x;
  __syncthreads();  // what an earlier call put there has been read
  if (threadIdx.x % kWarp == 0) room[threadIdx.x / kWarp] = x;
  __syncthreads();
  const int lane = threadIdx.x % kWarp;
  return warp_sum(lane < warps ? room[lane] : 0.0f);
}

}  // namespace x_transformers::kernels::cuda
