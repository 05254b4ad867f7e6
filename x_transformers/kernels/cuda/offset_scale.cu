// A thread has a vector of features of a row, and goes over the heads. For the sums over rows a
// warp has 32 features of one head, and the warps of a block are added up in shared memory.
#include "x_transformers/kernels/cuda/offset_scale.cuh"

#include "x_transformers/kernels/cuda/device/row_sum.cuh"
#include "x_transformers/kernels/cuda/device/vector.cuh"
#include "x_transformers/kernels/cuda/dispatch.cuh"

namespace x_transformers::kernels::cuda {
namespace {

constexpr int kThreads = 256, kWarps = 8;

template <class T, int kSize>
__global__ void __launch_bounds__(kThreads) offset_scale_kernel(OffsetScale p) {
  using Part = Vector<T, kSize>;
  const int64_t all = p.rows * p.dim, at = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * kSize;
  if (at >= all) return;
  const int64_t feature = at % p.dim;
  const T *from = static_cast<const T*>(p.from) + at, *gamma = static_cast<const T*>(p.gamma),
          *beta = static_cast<const T*>(p.beta);
  T* to = static_cast<T*>(p.to) + at;
  if (p.pass == Pass::forward) {
    const auto x = Part::load(from);
    for (int64_t h = 0; h < p.heads; ++h) {
      const auto g = Part::load(gamma + h * p.dim + feature),
                 b = Part::load(beta + h * p.dim + feature);
      Part y;
#pragma unroll
      for (int i = 0; i < kSize; ++i) {
        y.values[i] =
            from_float<T>(to_float(x.values[i]) * to_float(g.values[i]) + to_float(b.values[i]));
      }
      y.store(to + h * all);
    }
    return;
  }
  float sums[kSize] = {};
  for (int64_t h = 0; h < p.heads; ++h) {
    const auto grad = Part::load(from + h * all), g = Part::load(gamma + h * p.dim + feature);
#pragma unroll
    for (int i = 0; i < kSize; ++i) sums[i] += to_float(grad.values[i]) * to_float(g.values[i]);
  }
  Part total;
#pragma unroll
  for (int i = 0; i < kSize; ++i) total.values[i] = from_float<T>(sums[i]);
  total.store(to);
}

template <class T>
__global__ void __launch_bounds__(kWarps* kWarp) gradients_kernel(OffsetScaleGradients p) {
  __shared__ float of_warps[2][kWarps][kWarp];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int64_t feature = int64_t{blockIdx.x} * kWarp + lane, head = blockIdx.z;
  const int64_t chunk = (p.rows + p.chunks - 1) / p.chunks, begin = blockIdx.y * chunk;
  const int64_t end = begin + chunk < p.rows ? begin + chunk : p.rows;
  const T *x = static_cast<const T*>(p.x) + feature,
          *grad = static_cast<const T*>(p.y_grad) + head * p.rows * p.dim + feature;
  float gamma = 0, beta = 0;
  if (feature < p.dim) {
#pragma unroll 4
    for (int64_t row = begin + warp; row < end; row += kWarps) {
      const float own = to_float(grad[row * p.dim]);
      gamma += own * to_float(x[row * p.dim]);
      beta += own;
    }
  }
  of_warps[0][warp][lane] = gamma;
  of_warps[1][warp][lane] = beta;
  __syncthreads();
  if (warp > 1 || feature >= p.dim) return;
  float sum = 0;
#pragma unroll
  for (int w = 0; w < kWarps; ++w) sum += of_warps[warp][w][lane];
  p.sums[((int64_t{blockIdx.y} * 2 + warp) * p.heads + head) * p.dim + feature] = sum;
}

template <class T, int kSize>
void launch(const OffsetScale& p, cudaStream_t stream) {
  const auto vectors = p.rows * p.dim / kSize;
  offset_scale_kernel<T, kSize>
      <<<static_cast<unsigned>((vectors + kThreads - 1) / kThreads), kThreads, 0, stream>>>(p);
}

}  // namespace

cudaError_t offset_scale(const OffsetScale& p, cudaStream_t stream) {
  if (p.rows * p.dim == 0) return cudaSuccess;
  with_element(p.element, [&](auto number) {
    using T = decltype(number);
    constexpr int kVector = 16 / sizeof(T);
    const bool has_vectors = p.dim % kVector == 0 && is_aligned(p.from) && is_aligned(p.to) &&
                             is_aligned(p.gamma) && is_aligned(p.beta);
    has_vectors ? launch<T, kVector>(p, stream) : launch<T, 1>(p, stream);
  });
  return cudaGetLastError();
}

cudaError_t offset_scale_gradients(const OffsetScaleGradients& p, cudaStream_t stream) {
  if (p.heads * p.dim * p.chunks == 0) return cudaSuccess;
  with_element(p.element, [&](auto number) {
    const dim3 blocks(static_cast<unsigned>((p.dim + kWarp - 1) / kWarp),
                      static_cast<unsigned>(p.chunks), static_cast<unsigned>(p.heads));
    gradients_kernel<decltype(number)><<<blocks, kWarps * kWarp, 0, stream>>>(p);
  });
  return cudaGetLastError();
}

}  // namespace x_transformers::kernels::cuda
