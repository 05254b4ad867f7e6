// A thread has a vector of features of one head of x at one position, and goes over its copies.
#include "x_transformers/kernels/cuda/repeat_heads.cuh"

#include "x_transformers/kernels/cuda/device/vector.cuh"
#include "x_transformers/kernels/cuda/dispatch.cuh"

namespace x_transformers::kernels::cuda {
namespace {

constexpr int kThreads = 256;

template <class T, int kSize>
__global__ void __launch_bounds__(kThreads) repeat_heads_kernel(RepeatHeads p) {
  const int vectors = static_cast<int>(p.dim) / kSize;
  const int64_t index = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (index >= vectors * p.length) return;
  const int feature = static_cast<int>(index % vectors) * kSize;
  const int64_t place = index / vectors, head = blockIdx.y, entry = blockIdx.z;
  const T* from = static_cast<const T*>(p.from) + entry * p.from_strides[0] +
                  head * p.from_strides[1] + place * p.from_strides[2] + feature;
  T* to = static_cast<T*>(p.to) + entry * p.to_strides[0] + head * p.to_strides[1] +
          place * p.to_strides[2] + feature;
  if (p.pass == Pass::forward) {
    const auto values = Vector<T, kSize>::load(from);
    for (int64_t r = 0; r < p.times; ++r) values.store(to + r * p.heads * p.to_strides[1]);
    return;
  }
  float sums[kSize] = {};
#pragma unroll 4
  for (int64_t r = 0; r < p.times; ++r) {
    const auto values = Vector<T, kSize>::load(from + r * p.heads * p.from_strides[1]);
#pragma unroll
    for (int i = 0; i < kSize; ++i) sums[i] += to_float(values.values[i]);
  }
  Vector<T, kSize> total;
#pragma unroll
  for (int i = 0; i < kSize; ++i) total.values[i] = from_float<T>(sums[i]);
  total.store(to);
}

bool has_vectors(const RepeatHeads& p, int size) {
  bool fits = p.dim % size == 0 && is_aligned(p.from) && is_aligned(p.to);
  for (int i = 0; i < 3; ++i)
    fits = fits && p.from_strides[i] % size == 0 && p.to_strides[i] % size == 0;
  return fits;
}

template <class T, int kSize>
void launch(const RepeatHeads& params, cudaStream_t stream) {
  const auto vectors = params.length * (params.dim / kSize);
  const dim3 blocks(static_cast<unsigned>((vectors + kThreads - 1) / kThreads),
                    static_cast<unsigned>(params.heads), static_cast<unsigned>(params.batch));
  repeat_heads_kernel<T, kSize><<<blocks, kThreads, 0, stream>>>(params);
}

}  // namespace

cudaError_t repeat_heads(const RepeatHeads& params, cudaStream_t stream) {
  if (params.batch * params.heads * params.length * params.dim * params.times == 0)
    return cudaSuccess;
  with_element(params.element, [&](auto number) {
    using T = decltype(number);
    constexpr int kVector = 16 / sizeof(T);
    has_vectors(params, kVector) ? launch<T, kVector>(params, stream)
                                 : launch<T, 1>(params, stream);
  });
  return cudaGetLastError();
}

}  // namespace x_transformers::kernels::cuda
