// A weight is read once, which is all the work: by one warp, or where rows are long by several, and
// multiplied with every row of x on the way. Of float32: numbers of 16 bits go through tensor
// cores.
#include "x_transformers/kernels/cuda/few_rows.cuh"

#include "x_transformers/kernels/cuda/device/row_sum.cuh"
#include "x_transformers/kernels/cuda/device/vector.cuh"
#include "x_transformers/kernels/cuda/few_rows_tiles.cuh"

namespace x_transformers::kernels::cuda {
namespace {

constexpr int kWarps = 4;  ///< of a block

/// The layer that an output belongs to, which then counts from the first of that layer.
__device__ const FewRowsOfLayers::Layer& layer_of(const FewRowsOfLayers& p, int64_t& output) {
  int layer = 0;
  while (layer + 1 < p.count && output >= p.layers[layer].dim_out) {
    output -= p.layers[layer].dim_out;
    ++layer;
  }
  return p.layers[layer];
}

template <int kRows, int kWarpsOfOutput>
__global__ void __launch_bounds__(kWarps* kWarp)
    few_rows_kernel(const __grid_constant__ FewRowsOfLayers p, int64_t outputs) {
  using T = float;
  constexpr int kSize = 16 / sizeof(T), kTogether = 4;
  constexpr int kApart = kWarpsOfOutput * kWarp * kSize;
  __shared__ float room[kWarps][kRows];
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  int64_t output = int64_t{blockIdx.x} * (kWarps / kWarpsOfOutput) + warp / kWarpsOfOutput;
  const bool exists = output < outputs;
  if (!exists) output = 0;
  const auto& layer = layer_of(p, output);
  const T* weight = static_cast<const T*>(layer.weight) + output * p.dim;
  const T* x = static_cast<const T*>(p.x);
  float sums[kRows] = {};
  for (int64_t at = (warp % kWarpsOfOutput * kWarp + lane) * kSize; at < p.dim;
       at += kTogether * kApart) {
    Vector<T, kSize> weights[kTogether];
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      if (at + i * kApart < p.dim) weights[i] = Vector<T, kSize>::load(weight + at + i * kApart);
    }
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      if (at + i * kApart >= p.dim) break;
#pragma unroll
      for (int row = 0; row < kRows; ++row) {
        if (row >= p.rows) break;
        const auto values = Vector<T, kSize>::load(x + row * p.dim + at + i * kApart);
#pragma unroll
        for (int j = 0; j < kSize; ++j) sums[row] += weights[i].values[j] * values.values[j];
      }
    }
  }
#pragma unroll
  for (int row = 0; row < kRows; ++row) sums[row] = warp_sum(sums[row]);
  if constexpr (kWarpsOfOutput > 1) {
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
      if (lane == 0) room[warp][row] = sums[row];
    }
    __syncthreads();
    if (warp % kWarpsOfOutput != 0) return;
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
      sums[row] = 0;
      for (int other = 0; other < kWarpsOfOutput; ++other) sums[row] += room[warp + other][row];
    }
  }
  if (!exists || lane != 0) return;
  const float bias = layer.bias != nullptr ? static_cast<const T*>(layer.bias)[output] : 0.0f;
#pragma unroll
  for (int row = 0; row < kRows; ++row) {
    if (row < p.rows) static_cast<T*>(layer.out)[row * layer.dim_out + output] = sums[row] + bias;
  }
}

template <int kRows>
void launch(const FewRowsOfLayers& params, cudaStream_t stream) {
  constexpr int64_t kLong = 2048;
  int64_t outputs = 0;
  for (int i = 0; i < params.count; ++i) outputs += params.layers[i].dim_out;
  if (params.dim >= kLong) {
    few_rows_kernel<kRows, kWarps>
        <<<static_cast<unsigned>(outputs), kWarps * kWarp, 0, stream>>>(params, outputs);
  } else {
    few_rows_kernel<kRows, 1>
        <<<static_cast<unsigned>((outputs + kWarps - 1) / kWarps), kWarps * kWarp, 0, stream>>>(
            params, outputs);
  }
}

}  // namespace

cudaError_t linear_few_rows(const FewRowsOfLayers& params, cudaStream_t stream) {
  if (params.rows == 0) return cudaSuccess;
  if (params.element != Element::float32) return few_rows_in_tiles(params, stream);
  if (params.rows == 1) {
    launch<1>(params, stream);
  } else if (params.rows == 2) {
    launch<2>(params, stream);
  } else {
    launch<kMaxFewCudaRows>(params, stream);
  }
  return cudaGetLastError();
}

}  // namespace x_transformers::kernels::cuda
