// A lane has a few columns side by side, a warp every n-th row of them, and the warps of a block
// are added up in shared memory. Of many rows each block has a chunk, and a second launch adds up
// the chunks; of few rows the lanes have one column each, so that there are more blocks.
#include "x_transformers/kernels/cuda/column_sums.cuh"

#include <algorithm>

#include "x_transformers/kernels/cuda/device/row_sum.cuh"
#include "x_transformers/kernels/cuda/device/vector.cuh"
#include "x_transformers/kernels/cuda/dispatch.cuh"

namespace x_transformers::kernels::cuda {
namespace {

/// Rows of one chunk are summed at once by so many warps.
constexpr int kWarpsOfChunk = 8, kWarpsOfAll = 32;

struct Strip {
  const void* x;
  void* sums;  ///< [gridDim.y, columns]
  int64_t rows, stride;
  int columns;
};

template <class T, class Out, int kSize, int kWarps>
__global__ void __launch_bounds__(kWarps* kWarp) column_sums_kernel(Strip p) {
  using Part = Vector<T, kSize>;
  constexpr int kTogether = 8, kColumns = kWarp * kSize;
  __shared__ float of_warps[kWarps][kColumns];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int first = blockIdx.x * kColumns, column = first + lane * kSize;
  const int64_t chunk = (p.rows + gridDim.y - 1) / gridDim.y, begin = blockIdx.y * chunk;
  const int64_t end = begin + chunk < p.rows ? begin + chunk : p.rows;
  const T* x = static_cast<const T*>(p.x) + column;
  float sums[kSize] = {};
  if (column < p.columns) {
    for (int64_t row = begin + warp; row < end; row += kTogether * kWarps) {
      Part parts[kTogether];
#pragma unroll
      for (int n = 0; n < kTogether; ++n) {
        const int64_t at = row + n * kWarps;
        parts[n] = at < end ? Part::load(x + at * p.stride) : Part{};
      }
#pragma unroll
      for (int n = 0; n < kTogether; ++n) {
#pragma unroll
        for (int i = 0; i < kSize; ++i) sums[i] += to_float(parts[n].values[i]);
      }
    }
  }
#pragma unroll
  for (int i = 0; i < kSize; ++i) of_warps[warp][lane * kSize + i] = sums[i];
  __syncthreads();
  Out* out = static_cast<Out*>(p.sums) + int64_t{blockIdx.y} * p.columns + first;
  for (int c = threadIdx.x; c < kColumns && first + c < p.columns; c += kWarps * kWarp) {
    float total = 0;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) total += of_warps[w][c];
    out[c] = from_float<Out>(total);
  }
}

template <class T, class Out, int kSize, int kWarps>
void launch(const Strip& strip, int64_t chunks, cudaStream_t stream) {
  constexpr int kColumns = kWarp * kSize;
  const dim3 blocks(static_cast<unsigned>((strip.columns + kColumns - 1) / kColumns),
                    static_cast<unsigned>(chunks));
  column_sums_kernel<T, Out, kSize, kWarps><<<blocks, kWarps * kWarp, 0, stream>>>(strip);
}

template <class T>
void launch_whole(const Strip& strip, Element out, cudaStream_t stream) {
  with_element(out,
               [&](auto number) { launch<T, decltype(number), 1, kWarpsOfAll>(strip, 1, stream); });
}

}  // namespace

cudaError_t column_sums(const ColumnSums& p, cudaStream_t stream) {
  if (p.columns == 0) return cudaSuccess;
  const auto columns = static_cast<int>(p.columns);
  with_element(p.element, [&](auto number) {
    using T = decltype(number);
    if (p.chunks <= 1)
      return launch_whole<T>({p.x, p.sums, p.rows, p.stride, columns}, p.sums_element, stream);
    constexpr int kVector = 16 / sizeof(T);
    const Strip strip{p.x, p.partial, p.rows, p.stride, columns};
    const bool has_vectors = p.columns % kVector == 0 && p.stride % kVector == 0 && is_aligned(p.x);
    has_vectors ? launch<T, float, kVector, kWarpsOfChunk>(strip, p.chunks, stream)
                : launch<T, float, 1, kWarpsOfChunk>(strip, p.chunks, stream);
    launch_whole<float>({p.partial, p.sums, p.chunks, p.columns, columns}, p.sums_element, stream);
  });
  return cudaGetLastError();
}

int64_t column_sum_chunks(int64_t rows, int64_t columns) {
  // Up to so many rows are read within a few microseconds by the blocks of one launch.
  constexpr int64_t kFewRows = 1024, kBlocks = 4 * 132, kColumnsOfBlock = 256, kMinRows = 64;
  if (rows <= kFewRows) return 1;
  const auto strips = (columns + kColumnsOfBlock - 1) / kColumnsOfBlock;
  return std::clamp<int64_t>(kBlocks / std::max<int64_t>(1, strips), 1,
                             std::min<int64_t>(kFewRows, rows / kMinRows));
}

}  // namespace x_transformers::kernels::cuda
