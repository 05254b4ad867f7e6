// The factor is read first: that of a gradient is 1 but for sums over several batches, and then the
// blocks are over at once.
#include "x_transformers/kernels/cuda/scale.cuh"

#include <algorithm>

#include "x_transformers/kernels/cuda/device/packed.cuh"
#include "x_transformers/kernels/cuda/dispatch.cuh"

namespace x_transformers::kernels::cuda {
namespace {

constexpr int kThreads = 256;

template <class T, int kSize>
__global__ void __launch_bounds__(kThreads) scale_kernel(ScaleInPlace p) {
  const float factor = *p.factor;
  if (factor == 1.0f) return;
  T* x = static_cast<T*>(p.x);
  const int64_t apart = int64_t{gridDim.x} * kThreads * kSize;
  for (int64_t at = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * kSize; at < p.count;
       at += apart) {
    float values[kSize];
    Packed<T, kSize>::load(x + at).unpack(values);
#pragma unroll
    for (int i = 0; i < kSize; ++i) values[i] *= factor;
    Packed<T, kSize>::pack(values).store(x + at);
  }
}

}  // namespace

cudaError_t scale_in_place(const ScaleInPlace& params, cudaStream_t stream) {
  if (params.count == 0) return cudaSuccess;
  with_element(params.element, [&](auto number) {
    using T = decltype(number);
    constexpr int kVector = 16 / sizeof(T);
    constexpr int64_t kMaxBlocks = 16 * 132;
    const bool has_vectors = params.count % kVector == 0 && is_aligned(params.x);
    const int64_t of_block = kThreads * (has_vectors ? kVector : 1);
    const auto blocks = static_cast<unsigned>(
        std::min<int64_t>(kMaxBlocks, (params.count + of_block - 1) / of_block));
    has_vectors ? scale_kernel<T, kVector><<<blocks, kThreads, 0, stream>>>(params)
                : scale_kernel<T, 1><<<blocks, kThreads, 0, stream>>>(params);
  });
  return cudaGetLastError();
}

}  // namespace x_transformers::kernels::cuda
