// A block has a row, such as the logits of a token. There are few of them, so what counts is how
// many reads are on their way at once.
#include "x_transformers/kernels/cuda/argmax.cuh"

#include <cmath>

#include "x_transformers/kernels/cuda/device/dependent_launch.cuh"
#include "x_transformers/kernels/cuda/device/row_sum.cuh"
#include "x_transformers/kernels/cuda/device/vector.cuh"
#include "x_transformers/kernels/cuda/dispatch.cuh"

namespace x_transformers::kernels::cuda {
namespace {

constexpr int kThreads = 1024;

/// A number and where it is; at first none.
struct Found {
  float value = -INFINITY;
  int place = 0x7fffffff;

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

template <class T>
__global__ void __launch_bounds__(kThreads) argmax_kernel(ArgmaxOfRows p) {
  constexpr int kTogether = 16;
  __shared__ Found of_warps[kThreads / kWarp];
  wait_for_earlier();
  let_next_begin();
  const int dim = static_cast<int>(p.dim);
  const T* x = static_cast<const T*>(p.x) + int64_t{blockIdx.x} * dim;
  Found found;
  for (int base = threadIdx.x; base < dim; base += kTogether * kThreads) {
    T values[kTogether];
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      // Beyond the end the last once more, which changes nothing.
      values[i] = x[min(base + i * kThreads, dim - 1)];
    }
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      Found other;
      other.value = to_float(values[i]);
      other.place = min(base + i * kThreads, dim - 1);
      found.join(other);
    }
  }
  found.join_warp();
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  if (lane == 0) of_warps[warp] = found;
  __syncthreads();
  if (warp != 0) return;
  found = of_warps[lane];
  found.join_warp();
  if (lane == 0) p.out[blockIdx.x] = found.place;
}

}  // namespace

cudaError_t argmax_of_rows(const ArgmaxOfRows& params, cudaStream_t stream) {
  if (params.rows == 0) return cudaSuccess;
  const dim3 blocks(static_cast<unsigned>(params.rows));
  cudaError_t launched = cudaSuccess;
  with_element(params.element, [&](auto number) {
    launched =
        launch_early(argmax_kernel<decltype(number)>, {blocks, dim3(kThreads)}, stream, params);
  });
  return launched;
}

}  // namespace x_transformers::kernels::cuda
