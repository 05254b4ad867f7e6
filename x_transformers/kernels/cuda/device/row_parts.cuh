// Rows shared among threads: a group of threads side by side has a row, a warp or a part of one
// where rows are short, else a block, and a thread has vectors of it.
#pragma once

#include "x_transformers/kernels/cuda/device/row_sum.cuh"

namespace x_transformers::kernels::cuda {

constexpr int kWarpsOfShortRows = 4;  ///< of a block

__device__ inline int64_t group_of_thread() {
  return int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
}

/// Calls body(part, first feature) for the vectors of this thread: t, t + threads, ... of kSize
/// numbers, at most kParts of them.
template <int kSize, int kParts, class Body>
__device__ void for_parts_of_row(int dim, const Body& body) {
#pragma unroll
  for (int part = 0; part < kParts; ++part) {
    const int at = (part * blockDim.x + threadIdx.x) * kSize;
    if (at < dim) body(part, at);
  }
}

/// The sums over threadIdx.x, in every thread; `room` is shared memory of kCount floats for each
/// warp, which groups of a warp or a part of one do not need.
template <int kCount>
__device__ void row_sums(float (&sums)[kCount], float* room) {
  if (blockDim.x < kWarp) {
#pragma unroll
    for (auto& sum : sums) sum = group_sum(sum, blockDim.x);
    return;
  }
#pragma unroll
  for (auto& sum : sums) sum = warp_sum(sum);
  if (blockDim.x == kWarp) return;
  const int warps = blockDim.x / kWarp, lane = threadIdx.x % kWarp;
  __syncthreads();  // what an earlier call put there has been read
#pragma unroll
  for (int i = 0; i < kCount; ++i)
    if (lane == 0) room[threadIdx.x / kWarp * kCount + i] = sums[i];
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kCount; ++i) sums[i] = warp_sum(lane < warps ? room[lane * kCount + i] : 0);
}

}  // namespace x_transformers::kernels::cuda
