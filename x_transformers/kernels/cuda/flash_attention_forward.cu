// A block has some queries of a head, a warp some rows of them, and all go over the keys that they
// may see, a tile at a time; the next tile is on its way meanwhile. Scores and weights stay in
// registers. Sums are float32; weights are rounded to 16 bits before they meet the values.
#include "x_transformers/kernels/cuda/dispatch.cuh"
#include "x_transformers/kernels/cuda/flash_attention.cuh"
#include "x_transformers/kernels/cuda/flash_stages.cuh"

namespace x_transformers::kernels::cuda {
namespace {

/// kBlocks: how many of them a multiprocessor is to have at once.
template <class T, int kDimOf, int kValueDimOf, int kWarpsOf, int kNOf, int kBlocksOf>
struct ForwardShape {
  using Number = T;
  static constexpr int kDim = kDimOf, kValueDim = kValueDimOf;
  static constexpr int kWarps = kWarpsOf, kN = kNOf, kBlocks = kBlocksOf;
  static constexpr int kThreads = kWarps * 32, kRows = kWarps * 16, kKeys = 8 * kN;
  static constexpr int kDistances = kRows + kKeys;  ///< one more than there are
  using QueryTile = Tile<T, kRows, kDim>;
  using KeyTile = Tile<T, kKeys, kDim>;
  using ValueTile = Tile<T, kKeys, kValueDim>;
  using OutTile = Tile<T, kRows, kValueDim>;  ///< in place of the queries
  static constexpr int kQueries = kRows * (kDim > kValueDim ? kDim : kValueDim);
  static constexpr int kNumbers = kQueries + 2 * (KeyTile::kNumbers + ValueTile::kNumbers);
  static constexpr int kBytes = kNumbers * static_cast<int>(sizeof(T)) +
                                2 * (kDistances + kKeys) * static_cast<int>(sizeof(float));
};

/// The softmax of each row so far: its maximum score, in binary, and the sum of powers beside it.
struct RowsSoFar {
  float most[2], sum[2];
};

/// From scores, of `unit`, to weights relative to the maximum so far; what is summed already
/// is made relative to it as well.
template <FlashNormaliser kNormaliser, int kN, int kOut>
__device__ void weigh(Products<kN>& s, float unit, RowsSoFar& rows, Products<kOut>& sums) {
  using Signed = FlashWeight<FlashNormaliser::cog_signed>;
  constexpr bool kIsSigned = kNormaliser == FlashNormaliser::cog_signed;
  const auto size = [](float x) { return kIsSigned ? Signed::size(x) : x; };
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float most = size(s[0][2 * half]);
#pragma unroll
    for (int n = 0; n < kN; ++n) {
      most = fmaxf(most, size(s[n][2 * half]));
      most = fmaxf(most, size(s[n][2 * half + 1]));
    }
    most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
    most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
    most = fmaxf(most * unit, rows.most[half]);
    const float base = most == -INFINITY ? 0.0f : most;
    const float factor = power_of_2(rows.most[half] - base);
    rows.most[half] = most;
    float sum = 0;
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        float& x = s[n][2 * half + e];
        const float weight = power_of_2(fmaf(size(x), unit, -base));
        sum += weight;
        x = kIsSigned ? weight * Signed::sign(x) : weight;
      }
    }
    rows.sum[half] = rows.sum[half] * factor + sum;
#pragma unroll
    for (int n = 0; n < kOut; ++n) {
      sums[n][2 * half] *= factor;
      sums[n][2 * half + 1] *= factor;
    }
  }
}

template <class Shape, FlashNormaliser kNormaliser>
__global__ void __launch_bounds__(Shape::kThreads, Shape::kBlocks)
    forward_kernel(const __grid_constant__ FlashAttention p) {
  using T = typename Shape::Number;
  constexpr int kThreads = Shape::kThreads, kN = Shape::kN, kOut = Shape::kValueDim / 8;
  constexpr int kRows = Shape::kRows, kKeys = Shape::kKeys;
  constexpr bool kIsSoftmax = kNormaliser != FlashNormaliser::sigmoid;
  extern __shared__ __align__(1024) unsigned char room[];
  const typename Shape::QueryTile q_tile{reinterpret_cast<T*>(room)};
  T* const tiles = q_tile.numbers + Shape::kQueries;
  const auto k_tile = [&](int at) {
    using KeyTile = typename Shape::KeyTile;
    return KeyTile{tiles + at * KeyTile::kNumbers};
  };
  const auto v_tile = [&](int at) {
    using ValueTile = typename Shape::ValueTile;
    return ValueTile{tiles + 2 * Shape::KeyTile::kNumbers + at * ValueTile::kNumbers};
  };
  float* const distances = reinterpret_cast<float*>(v_tile(2).numbers);
  float* const key_terms = distances + 2 * Shape::kDistances;

  const FlashHead head(p, blockIdx.y);
  // The last queries see the most keys, so they begin.
  const int first = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kRows;
  const auto range = visible_keys(p, first, kRows, kKeys);
  const int queries = static_cast<int>(p.queries), keys = static_cast<int>(p.keys);
  const int dim = static_cast<int>(p.dim), value_dim = static_cast<int>(p.value_dim);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int own = warp * 16;  // the warp's first row

  TileCopies<kThreads, typename Shape::KeyTile> k_copies(head.memory<const T>(p.k), p.k.strides[2],
                                                         range.begin, keys, dim);
  TileCopies<kThreads, typename Shape::ValueTile> v_copies(
      head.memory<const T>(p.v), p.v.strides[2], range.begin, keys, value_dim);
  const auto copy_keys = [&](int key, int at) {
    k_copies.begin(k_tile(at));
    v_copies.begin(v_tile(at));
    if (head.distance_bias != nullptr)
      copy_distances<kThreads>(distances + at * Shape::kDistances, p, head, key, first + kRows - 1,
                               Shape::kDistances);
    if (head.key_bias != nullptr)
      copy_terms<kThreads>(key_terms + at * kKeys, head.key_bias, key, kKeys, keys);
  };
  copy_tile<kThreads>(q_tile, head.memory<const T>(p.q), p.q.strides[2], first, queries, dim);
  if (range.begin < range.end) copy_keys(range.begin, 0);

  RowsSoFar rows;
  float query_terms[2];
  Products<kOut> sums;
  set_to_zero<kOut>(sums);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = first + own + 8 * half + g;
    rows.most[half] = p.sink != nullptr ? p.sink[head.head] : -INFINITY;
    // Each of four threads has a part of a row's sum.
    rows.sum[half] = p.sink != nullptr && t == 0 ? 1.0f : 0.0f;
    query_terms[half] = head.query_bias != nullptr && row < queries ? head.query_bias[row] : 0.0f;
  }

  int at = 0;
  for (int key = range.begin; key < range.end; key += kKeys, at ^= 1) {
    wait_for_tiles();
    __syncthreads();  // the tile is there, and the other has been read
    if (key + kKeys < range.end) copy_keys(key + kKeys, at ^ 1);
    FlashPlace place;
    place.row = first + own;
    place.column = key;
    place.distances = distances + at * Shape::kDistances;
    place.shift = kRows - 1 - own;
    place.column_terms = head.key_bias != nullptr ? key_terms + at * kKeys : nullptr;
    const FlashStages<false, kN> stages(p, head, place);
    if (stages.sees_nothing()) continue;
    Products<kN> s;
    begin_multiply_by_rows<kN>(s, q_tile, own, k_tile(at));
    wait_for_products<0, kN>(s);
    const float unit = stages.apply(s, query_terms);
    if constexpr (kIsSoftmax) {
      weigh<kNormaliser, kN, kOut>(s, unit, rows, sums);
    } else {
#pragma unroll
      for (int n = 0; n < kN; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) s[n][i] = FlashWeight<kNormaliser>::of(s[n][i], unit, 0);
      }
    }
    Factors<kN> weights;
    pack<T, kN>(weights, s);
    begin_add_product<kN>(sums, weights, v_tile(at));
    wait_for_products<0, kOut>(sums);
    keep_until_here<kN>(weights);
  }

  if constexpr (kIsSoftmax) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float sum = rows.sum[half];
      sum += __shfl_xor_sync(0xffffffffu, sum, 1);
      sum += __shfl_xor_sync(0xffffffffu, sum, 2);
      // Of a NaN the comparison is false, and it comes out.
      const float inverse = sum == 0 ? 0.0f : 1.0f / sum;
#pragma unroll
      for (int n = 0; n < kOut; ++n) {
        sums[n][2 * half] *= inverse;
        sums[n][2 * half + 1] *= inverse;
      }
      const int row = first + own + 8 * half + g;
      if (t == 0 && row < queries)
        p.log_sum_exp[head.row * queries + row] =
            sum == 0 ? INFINITY : rows.most[half] + log2f(sum);
    }
  }
  wait_for_copies();
  __syncthreads();  // where there are no keys, the queries may be on their way still
  write_rows(sums, typename Shape::OutTile{q_tile.numbers}, own, head.memory<T>(p.out),
             p.out.strides[2], first + own, queries, value_dim);
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

/// Blocks of one warpgroup, so that no two of them wait for each other.
template <class T>
cudaError_t launch_dim(const FlashAttention& params, cudaStream_t stream) {
  if (params.value_dim <= 64) {
    if (params.dim <= 64)
      return launch_normaliser<ForwardShape<T, 64, 64, 4, 8, 4>>(params, stream);
    return launch_normaliser<ForwardShape<T, 128, 64, 4, 8, 2>>(params, stream);
  }
  return launch_normaliser<ForwardShape<T, 128, 128, 4, 8, 2>>(params, stream);
}

}  // namespace

cudaError_t flash_attention_forward(const FlashAttention& given, cudaStream_t stream) {
  auto params = given;
  if (params.batch * params.heads * params.queries == 0) return cudaSuccess;
  if (const auto error = add_squares(params, stream); error != cudaSuccess) return error;
  return params.element == Element::bfloat16 ? launch_dim<__nv_bfloat16>(params, stream)
                                             : launch_dim<__half>(params, stream);
}

}  // namespace x_transformers::kernels::cuda
