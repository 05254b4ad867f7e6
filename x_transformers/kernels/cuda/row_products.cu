// Sums along the features of two tensors of heads: a group of threads has a row, each thread eight
// features of it.
#include "x_transformers/kernels/cuda/device/row_sum.cuh"
#include "x_transformers/kernels/cuda/device/vector.cuh"
#include "x_transformers/kernels/cuda/dispatch.cuh"
#include "x_transformers/kernels/cuda/flash_attention.cuh"
#include "x_transformers/kernels/cuda/flash_stages.cuh"

namespace x_transformers::kernels::cuda {
namespace {

constexpr int kThreads = 256, kMaxLanes = static_cast<int>(kMaxFlashFeatures) / kChunk;

template <class T>
__global__ void row_products_kernel(const __grid_constant__ RowProducts p) {
  const int64_t at = int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
  if (at >= p.batch * p.heads * p.rows) return;
  const int64_t matrix = at / p.rows, row = at % p.rows;
  const int64_t entry = matrix / p.heads, head = matrix % p.heads;
  const int feature = threadIdx.x * kChunk;
  float sum = 0;
  if (feature < p.dim) {
    const auto load = [&](const HeadsOfTokens& t) {
      return Vector<T, kChunk>::load(static_cast<const T*>(t.data) + entry * t.strides[0] +
                                     head * t.strides[1] + row * t.strides[2] + feature);
    };
    const auto a = load(p.a), b = load(p.b);
#pragma unroll
    for (int i = 0; i < kChunk; ++i) sum += to_float(a.values[i]) * to_float(b.values[i]);
  }
  sum = group_sum(sum, blockDim.x);
  if (threadIdx.x == 0) p.sums[at] = p.factor * sum;
}

}  // namespace

cudaError_t row_products(const RowProducts& params, cudaStream_t stream) {
  const auto all = params.batch * params.heads * params.rows;
  if (all == 0) return cudaSuccess;
  const int lanes = params.dim <= kMaxLanes * kChunk / 2 ? kMaxLanes / 2 : kMaxLanes;
  const int rows = kThreads / lanes;
  const auto blocks = static_cast<unsigned>((all + rows - 1) / rows);
  const dim3 threads(lanes, rows);
  if (params.element == Element::bfloat16) {
    row_products_kernel<__nv_bfloat16><<<blocks, threads, 0, stream>>>(params);
  } else {
    row_products_kernel<__half><<<blocks, threads, 0, stream>>>(params);
  }
  return cudaGetLastError();
}

cudaError_t add_squares(FlashAttention& params, cudaStream_t stream) {
  if (params.query_squares == nullptr) return cudaSuccess;
  const auto fill = [&](const HeadsOfTokens& t, int64_t rows, float* squares) {
    const float factor = -0.5f * params.scale * kLog2E;
    return row_products(
        {params.element, t, t, params.batch, params.heads, rows, params.dim, factor, squares},
        stream);
  };
  const auto error = fill(params.q, params.queries, params.query_squares);
  if (error != cudaSuccess) return error;
  params.query_bias = params.query_squares;
  params.key_bias = params.key_squares;
  return fill(params.k, params.keys, params.key_squares);
}

}  // namespace x_transformers::kernels::cuda
