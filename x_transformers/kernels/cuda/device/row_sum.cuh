// Sums over the threads that share a row.
#pragma once

namespace x_transformers::kernels::cuda {

constexpr int kWarp = 32;

__device__ inline float warp_sum(float x) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2)
    x += __shfl_xor_sync(0xffffffffu, x, offset);
  return x;
}

/// The sum over the `lanes` threads side by side that this one is of, a power of two up to a warp.
/// Threads of other groups need not call it.
__device__ inline float group_sum(float x, int lanes) {
  const int first = (threadIdx.y * blockDim.x + threadIdx.x) % kWarp / lanes * lanes;
  const unsigned mask = (lanes == kWarp ? 0xffffffffu : (1u << lanes) - 1) << first;
  for (int offset = lanes / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(mask, x, offset);
  return x;
}

/// The sum over threadIdx.x, in every thread. Rows of a warp or a part of one need no other thread;
/// with more, blockDim.y is 1 and all threads of the block call it. `room` is shared memory of a
/// float for each warp.
__device__ inline float row_sum(float x, float* room) {
  if (blockDim.x <= kWarp) return group_sum(x, blockDim.x);
  x = warp_sum(x);
  const int warps = blockDim.x / kWarp;
  __syncthreads();  // what an earlier call put there has been read
  if (threadIdx.x % kWarp == 0) room[threadIdx.x / kWarp] = x;
  __syncthreads();
  const int lane = threadIdx.x % kWarp;
  return warp_sum(lane < warps ? room[lane] : 0.0f);
}

}  // namespace x_transformers::kernels::cuda
