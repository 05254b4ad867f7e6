// A block has some queries of a head, a warp some rows of them, and all go over the keys that they
// may see, a tile at a time; the next tile is on its way meanwhile. Scores and weights stay in
// registers. Sums are float32; weights are rounded to 16 bits before they meet the values.
#include "x_transformers/kernels/cuda/dispatch.cuh"
#include "x_transformers/kernels/cuda/flash_attention.cuh"
#include "x_transformers/kernels/cuda/flash_stages.cuh"

namespace x_transformers::kernels::cuda {
namespace {

/// kBlocks: how many of them a multiprocessor is to have at once.
template <class T, int kDimOf, int kValueDimOf, int kWarpsOf, int kMOf, int kNOf, int kBlocksOf>
struct ForwardShape {
  using Number = T;
  static constexpr int kDim = kDimOf, kValueDim = kValueDimOf;
  static constexpr int kWarps = kWarpsOf, kM = kMOf, kN = kNOf;
  static constexpr int kBlocks = kBlocksOf;
  static constexpr int kThreads = kWarps * 32, kRows = kWarps * 16 * kM, kKeys = 8 * kN;
  static constexpr int kDistances = kRows + kKeys;  ///< one more than there are
  /// The queries are replaced by what comes out.
  static constexpr int kQueries = kRows * (kDim > kValueDim ? kDim : kValueDim);
  static constexpr int kNumbers = kQueries + 2 * kKeys * (kDim + kValueDim);
  static constexpr int kBytes = kNumbers * static_cast<int>(sizeof(T)) +
                                2 * (kDistances + kKeys) * static_cast<int>(sizeof(float));
};

/// The softmax of each row so far: its greatest score, in binary, and the sum of powers beside it.
template <int kM>
struct RowsSoFar {
  float most[kM][2], sum[kM][2];
};

/// From scores, of `unit`, to weights relative to the greatest score so far; what is summed already
/// is made relative to it as well.
template <FlashNormaliser kNormaliser, int kM, int kN, int kOut>
__device__ void weigh(Products<kM, kN>& s, float unit, RowsSoFar<kM>& rows,
                      Products<kM, kOut>& sums) {
  using Signed = FlashWeight<FlashNormaliser::cog_signed>;
  constexpr bool kIsSigned = kNormaliser == FlashNormaliser::cog_signed;
  const auto size = [](float x) { return kIsSigned ? Signed::size(x) : x; };
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float most = size(s[m][0][2 * half]);
#pragma unroll
      for (int n = 0; n < kN; ++n) {
        most = fmaxf(most, size(s[m][n][2 * half]));
        most = fmaxf(most, size(s[m][n][2 * half + 1]));
      }
      most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
      most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
      most = fmaxf(most * unit, rows.most[m][half]);
      const float base = most == -INFINITY ? 0.0f : most;
      const float factor = power_of_2(rows.most[m][half] - base);
      rows.most[m][half] = most;
      float sum = 0;
#pragma unroll
      for (int n = 0; n < kN; ++n) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float& x = s[m][n][2 * half + e];
          const float weight = power_of_2(fmaf(size(x), unit, -base));
          sum += weight;
          x = kIsSigned ? weight * Signed::sign(x) : weight;
        }
      }
      rows.sum[m][half] = rows.sum[m][half] * factor + sum;
#pragma unroll
      for (int n = 0; n < kOut; ++n) {
        sums[m][n][2 * half] *= factor;
        sums[m][n][2 * half + 1] *= factor;
      }
    }
  }
}

template <class Shape, FlashNormaliser kNormaliser>
__global__ void __launch_bounds__(Shape::kThreads, Shape::kBlocks)
    forward_kernel(const __grid_constant__ FlashAttention p) {
  using T = typename Shape::Number;
  constexpr int kDim = Shape::kDim, kValueDim = Shape::kValueDim, kThreads = Shape::kThreads;
  constexpr int kM = Shape::kM, kN = Shape::kN;
  constexpr int kRows = Shape::kRows, kKeys = Shape::kKeys;
  constexpr bool kIsSoftmax = kNormaliser != FlashNormaliser::sigmoid;
  extern __shared__ __align__(128) unsigned char room[];
  T* const q_tile = reinterpret_cast<T*>(room);
  T* const k_tiles = q_tile + Shape::kQueries;
  T* const v_tiles = k_tiles + 2 * kKeys * kDim;
  float* const distances = reinterpret_cast<float*>(v_tiles + 2 * kKeys * kValueDim);
  float* const key_terms = distances + 2 * Shape::kDistances;

  const FlashHead head(p, blockIdx.y);
  // The last queries see the most keys, so they begin.
  const int first = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kRows;
  const auto range = visible_keys(p, first, kRows, kKeys);
  const int queries = static_cast<int>(p.queries), keys = static_cast<int>(p.keys);
  const int dim = static_cast<int>(p.dim), value_dim = static_cast<int>(p.value_dim);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int own = warp * 16 * kM;  // the warp's first row

  const auto copy_keys = [&](int key, int at) {
    copy_tile<kKeys, kDim, kThreads>(k_tiles + at * kKeys * kDim, head.memory<const T>(p.k),
                                     p.k.strides[2], key, keys, dim);
    copy_tile<kKeys, kValueDim, kThreads>(v_tiles + at * kKeys * kValueDim,
                                          head.memory<const T>(p.v), p.v.strides[2], key, keys,
                                          value_dim);
    if (head.distance_bias != nullptr)
      copy_distances<kThreads>(distances + at * Shape::kDistances, p, head, key, first + kRows - 1,
                               Shape::kDistances);
    if (head.key_bias != nullptr)
      copy_terms<kThreads>(key_terms + at * kKeys, head.key_bias, key, kKeys, keys);
  };
  copy_tile<kRows, kDim, kThreads>(q_tile, head.memory<const T>(p.q), p.q.strides[2], first,
                                   queries, dim);
  if (range.begin < range.end) copy_keys(range.begin, 0);

  RowsSoFar<kM> rows;
  float query_terms[kM][2];
  Products<kM, kValueDim / 8> sums;
  set_to_zero<kM, kValueDim / 8>(sums);
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = first + own + 16 * m + 8 * half + g;
      rows.most[m][half] = p.sink != nullptr ? p.sink[head.head] : -INFINITY;
      // Each of four threads has a part of a row's sum.
      rows.sum[m][half] = p.sink != nullptr && t == 0 ? 1.0f : 0.0f;
      query_terms[m][half] =
          head.query_bias != nullptr && row < queries ? head.query_bias[row] : 0.0f;
    }
  }

  int at = 0;
  for (int key = range.begin; key < range.end; key += kKeys, at ^= 1) {
    wait_for_copies();
    __syncthreads();  // the tile is there, and the other has been read
    if (key + kKeys < range.end) copy_keys(key + kKeys, at ^ 1);
    FlashPlace place;
    place.row = first + own;
    place.column = key;
    place.distances = distances + at * Shape::kDistances;
    place.shift = kRows - 1 - own;
    place.column_terms = head.key_bias != nullptr ? key_terms + at * kKeys : nullptr;
    const FlashStages<false, kM, kN> stages(p, head, place);
    if (stages.sees_nothing()) continue;
    Products<kM, kN> s;
    multiply_by_rows<T, kDim>(s, q_tile, own, k_tiles + at * kKeys * kDim);
    const float unit = stages.apply(s, query_terms);
    if constexpr (kIsSoftmax) {
      weigh<kNormaliser>(s, unit, rows, sums);
    } else {
#pragma unroll
      for (int m = 0; m < kM; ++m) {
#pragma unroll
        for (int n = 0; n < kN; ++n) {
#pragma unroll
          for (int i = 0; i < 4; ++i)
            s[m][n][i] = FlashWeight<kNormaliser>::of(s[m][n][i], unit, 0);
        }
      }
    }
    add_product<T, kValueDim>(sums, s, v_tiles + at * kKeys * kValueDim);
  }

  if constexpr (kIsSoftmax) {
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float sum = rows.sum[m][half];
        sum += __shfl_xor_sync(0xffffffffu, sum, 1);
        sum += __shfl_xor_sync(0xffffffffu, sum, 2);
        // Of a NaN the comparison is false, and it comes out.
        const float inverse = sum == 0 ? 0.0f : 1.0f / sum;
#pragma unroll
        for (int n = 0; n < kValueDim / 8; ++n) {
          sums[m][n][2 * half] *= inverse;
          sums[m][n][2 * half + 1] *= inverse;
        }
        const int row = first + own + 16 * m + 8 * half + g;
        if (t == 0 && row < queries)
          p.log_sum_exp[head.row * queries + row] =
              sum == 0 ? INFINITY : rows.most[m][half] + log2f(sum);
      }
    }
  }
  wait_for_copies();
  __syncthreads();  // where there are no keys, the queries may be on their way still
  write_rows<T, kValueDim>(sums, q_tile, own, head.memory<T>(p.out), p.out.strides[2], first + own,
                           queries, value_dim);
}

template <class Shape, FlashNormaliser kNormaliser>
cudaError_t launch(const FlashAttention& params, cudaStream_t stream) {
  const auto kernel = forward_kernel<Shape, kNormaliser>;
  const auto error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, Shape::kBytes);
  if (error != cudaSuccess) return error;
  const dim3 blocks(static_cast<unsigned>((params.queries + Shape::kRows - 1) / Shape::kRows),
                    static_cast<unsigned>(params.batch * params.heads));
  kernel<<<blocks, Shape::kThreads, Shape::kBytes, stream>>>(params);
  return cudaGetLastError();
}

template <class Shape>
cudaError_t launch_normaliser(const FlashAttention& params, cudaStream_t stream) {
  switch (params.normaliser) {
    case FlashNormaliser::softmax:
      return launch<Shape, FlashNormaliser::softmax>(params, stream);
    case FlashNormaliser::sigmoid:
      return launch<Shape, FlashNormaliser::sigmoid>(params, stream);
    case FlashNormaliser::cog_signed:
      return launch<Shape, FlashNormaliser::cog_signed>(params, stream);
  }
  return cudaErrorInvalidValue;
}

template <class T>
cudaError_t launch_dim(const FlashAttention& params, cudaStream_t stream) {
  if (params.value_dim <= 64) {
    if (params.dim <= 64)
      return launch_normaliser<ForwardShape<T, 64, 64, 8, 1, 8, 2>>(params, stream);
    return launch_normaliser<ForwardShape<T, 128, 64, 8, 1, 8, 1>>(params, stream);
  }
  return launch_normaliser<ForwardShape<T, 128, 128, 4, 2, 4, 2>>(params, stream);
}

}  // namespace

cudaError_t flash_attention_forward(const FlashAttention& params, cudaStream_t stream) {
  if (params.batch * params.heads * params.queries == 0) return cudaSuccess;
  return params.element == Element::bfloat16 ? launch_dim<__nv_bfloat16>(params, stream)
                                             : launch_dim<__half>(params, stream);
}

}  // namespace x_transformers::kernels::cuda
