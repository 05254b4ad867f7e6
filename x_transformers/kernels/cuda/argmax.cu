// A cluster of blocks has a row, such as the logits of a token; with many rows, or on GPUs without
// clusters, a block. There are few rows, so what counts is how many reads are on their way at once.
#include "x_transformers/kernels/cuda/argmax.cuh"

#include <cooperative_groups.h>

#include <cmath>

#include "x_transformers/kernels/cuda/device/dependent_launch.cuh"
#include "x_transformers/kernels/cuda/device/packed.cuh"
#include "x_transformers/kernels/cuda/device/row_sum.cuh"
#include "x_transformers/kernels/cuda/dispatch.cuh"

namespace x_transformers::kernels::cuda {
namespace {

constexpr int kThreads = 512, kMaxParts = 8, kMaxBlocks = 264;

constexpr int kNowhere = 0x7fffffff;

/// A number and where it is; at first none.
struct Found {
  float value = -INFINITY;
  int place = kNowhere;

  __device__ void join(const Found& other) {
    const bool is_greater = other.value > value || (isnan(other.value) && !isnan(value));
    const bool is_equal = other.value == value || (isnan(other.value) && isnan(value));
    if (is_greater || (is_equal && other.place < place)) *this = other;
  }
  __device__ void join_warp() {
    for (int offset = kWarp / 2; offset > 0; offset /= 2) {
      Found other;
      other.value = __shfl_xor_sync(0xffffffffu, value, offset);
      other.place = __shfl_xor_sync(0xffffffffu, place, offset);
      join(other);
    }
  }
};

/// Adds a vector of numbers; most have none that is greater than what was found.
template <int kSize>
__device__ void add(Found& found, const float (&values)[kSize], int first) {
  float most = values[0];
#pragma unroll
  for (int i = 1; i < kSize; ++i) {
    asm("max.NaN.f32 %0, %0, %1;" : "+f"(most) : "f"(values[i]));
  }
  if (most <= found.value && found.place != kNowhere) return;  // not so of a NaN
#pragma unroll
  for (int i = 0; i < kSize; ++i) {
    Found other;
    other.value = values[i];
    other.place = first + i;
    found.join(other);
  }
}

/// What the blocks of a cluster, the parts of a row, have found; in the first of them.
__device__ Found over_cluster(const Found& mine, int parts) {
  Found found = mine;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  __shared__ Found of_block;
  const auto cluster = cooperative_groups::this_cluster();
  if (threadIdx.x == 0) of_block = mine;
  cluster.sync();
  if (threadIdx.x == 0 && blockIdx.x == 0) {
    for (int part = 1; part < parts; ++part) found.join(*cluster.map_shared_rank(&of_block, part));
  }
  cluster.sync();  // a block stays until nobody reads its memory
#endif
  return found;
}

template <class T, int kSize>
__global__ void __launch_bounds__(kThreads) argmax_kernel(ArgmaxOfRows p) {
  constexpr int kTogether = 4;
  __shared__ Found of_warps[kThreads / kWarp];
  wait_for_earlier();
  let_next_begin();
  const int vectors = static_cast<int>(p.dim / kSize), parts = static_cast<int>(gridDim.x);
  const int share = (vectors + parts - 1) / parts, begin = static_cast<int>(blockIdx.x) * share;
  const int end = min(begin + share, vectors);
  const T* x = static_cast<const T*>(p.x) + int64_t{blockIdx.y} * p.dim;
  Found found;
  for (int base = begin + static_cast<int>(threadIdx.x); base < end; base += kTogether * kThreads) {
    Packed<T, kSize> loaded[kTogether];
#pragma unroll
    for (int n = 0; n < kTogether; ++n) {
      // Beyond the end the last once more, which changes nothing.
      loaded[n] = Packed<T, kSize>::load(x + min(base + n * kThreads, end - 1) * kSize);
    }
#pragma unroll
    for (int n = 0; n < kTogether; ++n) {
      float values[kSize];
      loaded[n].unpack(values);
      add(found, values, min(base + n * kThreads, end - 1) * kSize);
    }
  }
  found.join_warp();
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  if (lane == 0) of_warps[warp] = found;
  __syncthreads();
  if (warp == 0) {
    found = lane < kThreads / kWarp ? of_warps[lane] : Found();
    found.join_warp();
  }
  if (parts > 1) found = over_cluster(found, parts);
  if (threadIdx.x == 0 && blockIdx.x == 0) p.out[blockIdx.y] = found.place;
}

}  // namespace

cudaError_t argmax_of_rows(const ArgmaxOfRows& params, cudaStream_t stream) {
  if (params.rows == 0) return cudaSuccess;
  const auto rows = static_cast<unsigned>(params.rows);
  unsigned parts = 1;
  while (has_clusters() && parts < kMaxParts && 2 * parts * rows <= kMaxBlocks &&
         parts * kThreads < params.dim)
    parts *= 2;
  const dim3 blocks(parts, rows);
  cudaError_t launched = cudaSuccess;
  with_element(params.element, [&](auto number) {
    using T = decltype(number);
    constexpr int kVector = 16 / sizeof(T);
    const bool has_vectors = params.dim % kVector == 0 && is_aligned(params.x);
    const auto kernel = has_vectors ? argmax_kernel<T, kVector> : argmax_kernel<T, 1>;
    launched = launch_early(kernel, {blocks, dim3(kThreads), 0, dim3(parts)}, stream, params);
  });
  return launched;
}

}  // namespace x_transformers::kernels::cuda
