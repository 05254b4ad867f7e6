// Two passes that both make the weights anew, so that nothing is added by atomics: one with some
// queries a block, which go over their keys, for the gradients of q and of the bias of distances;
// one with some keys a block, which go over the queries that see them, for those of k and v. That
// is seven products of the size of q·k in place of five. Gradients of scores and weights are
// rounded to 16 bits before they are multiplied; sums are float32.
#include "x_transformers/kernels/cuda/device/vector.cuh"
#include "x_transformers/kernels/cuda/dispatch.cuh"
#include "x_transformers/kernels/cuda/distance_sums.cuh"
#include "x_transformers/kernels/cuda/flash_attention.cuh"
#include "x_transformers/kernels/cuda/flash_stages.cuh"

namespace x_transformers::kernels::cuda {
namespace {

/// A block's rows and the columns of a tile; kBlocks of them are to be on a multiprocessor at once.
template <class T, int kDimOf, int kValueDimOf, int kWarpsOf, int kNOf, int kBlocksOf>
struct BackwardShape {
  using Number = T;
  static constexpr int kDim = kDimOf, kValueDim = kValueDimOf, kWarps = kWarpsOf, kN = kNOf;
  static constexpr int kBlocks = kBlocksOf;
  static constexpr int kThreads = kWarps * 32, kRows = kWarps * 16, kColumns = 8 * kN;
  static constexpr int kDistances = kRows + kColumns;  ///< one more than there are
  /// Of queries or keys, and of gradients or values.
  using RowTile = Tile<T, kRows, kDim>;
  using RowValueTile = Tile<T, kRows, kValueDim>;
  using ColumnTile = Tile<T, kColumns, kDim>;
  using ColumnValueTile = Tile<T, kColumns, kValueDim>;
  static constexpr int kTiles = (kRows + 2 * kColumns) * (kDim + kValueDim);
};

template <int kOut>
__device__ void scale_all(Products<kOut>& sums, float factor) {
#pragma unroll
  for (int n = 0; n < kOut; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) sums[n][i] *= factor;
  }
}

/// gradient -= x * sum of its row: what query_bias or key_bias, minus half of x squared, adds.
template <class Tile, int kN>
__device__ void add_gradient_of_square(Products<kN>& gradient, const Tile& tile, int row,
                                       const float (&sums)[2]) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
#pragma unroll
  for (int n = 0; n < kN; ++n) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const auto* chunk = tile.chunk(row + 8 * half + g, n) + 2 * t;
      gradient[n][2 * half] -= to_float(chunk[0]) * sums[half];
      gradient[n][2 * half + 1] -= to_float(chunk[1]) * sums[half];
    }
  }
}

/// The sums over the four threads that share a row.
__device__ inline void join_rows(float (&sums)[2]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    sums[half] += __shfl_xor_sync(0xffffffffu, sums[half], 1);
    sums[half] += __shfl_xor_sync(0xffffffffu, sums[half], 2);
  }
}

/// A block's rows, and two tiles of columns: one is read while the next is on its way.
template <class Shape>
struct Tiles {
  using T = typename Shape::Number;
  typename Shape::RowTile rows;
  typename Shape::RowValueTile row_values;
  T* of_columns;

  __device__ explicit Tiles(void* room)
      : rows{static_cast<T*>(room)},
        row_values{rows.numbers + Shape::RowTile::kNumbers},
        of_columns(row_values.numbers + Shape::RowValueTile::kNumbers) {}
  __device__ typename Shape::ColumnTile columns(int at) const {
    return {of_columns + at * Shape::ColumnTile::kNumbers};
  }
  __device__ typename Shape::ColumnValueTile column_values(int at) const {
    return {of_columns + 2 * Shape::ColumnTile::kNumbers + at * Shape::ColumnValueTile::kNumbers};
  }
  __device__ float* behind() const { return reinterpret_cast<float*>(column_values(2).numbers); }
};

/// Gradients of q, query_bias and distance_bias.
template <class Shape, FlashNormaliser kNormaliser>
__global__ void __launch_bounds__(Shape::kThreads, Shape::kBlocks)
    query_kernel(const __grid_constant__ FlashAttention p) {
  using T = typename Shape::Number;
  using Weight = FlashWeight<kNormaliser>;
  using Sums = DistanceSums<Shape::kWarps, Shape::kN>;
  constexpr int kN = Shape::kN, kOut = Shape::kDim / 8, kThreads = Shape::kThreads;
  constexpr int kRows = Shape::kRows, kKeys = Shape::kColumns;
  constexpr bool kIsSoftmax = kNormaliser != FlashNormaliser::sigmoid;
  extern __shared__ __align__(1024) unsigned char room[];
  const Tiles<Shape> tiles(room);
  float* const distances = tiles.behind();
  float* const key_terms = distances + 2 * Shape::kDistances;

  const FlashHead head(p, blockIdx.y);
  const int block = static_cast<int>(gridDim.x - 1 - blockIdx.x), first = block * kRows;
  const auto range = visible_keys(p, first, kRows, kKeys);
  const int queries = static_cast<int>(p.queries), keys = static_cast<int>(p.keys);
  const int dim = static_cast<int>(p.dim), value_dim = static_cast<int>(p.value_dim);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int own = warp * 16;

  TileCopies<kThreads, typename Shape::ColumnTile> k_copies(head.memory<const T>(p.k),
                                                            p.k.strides[2], range.begin, keys, dim);
  TileCopies<kThreads, typename Shape::ColumnValueTile> v_copies(
      head.memory<const T>(p.v), p.v.strides[2], range.begin, keys, value_dim);
  const auto copy_keys = [&](int key, int at) {
    k_copies.begin(tiles.columns(at));
    v_copies.begin(tiles.column_values(at));
    if (head.distance_bias != nullptr)
      copy_distances<kThreads>(distances + at * Shape::kDistances, p, head, key, first + kRows - 1,
                               Shape::kDistances);
    if (head.key_bias != nullptr)
      copy_terms<kThreads>(key_terms + at * kKeys, head.key_bias, key, kKeys, keys);
  };
  copy_tile<kThreads>(tiles.rows, head.memory<const T>(p.q), p.q.strides[2], first, queries, dim);
  copy_tile<kThreads>(tiles.row_values, head.memory<const T>(p.out_grad), p.out_grad.strides[2],
                      first, queries, value_dim);
  if (range.begin < range.end) copy_keys(range.begin, 0);

  float query_terms[2], log_sum_exp[2], along[2], row_sums[2] = {0, 0};
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = first + own + 8 * half + g;
    const bool exists = row < queries;
    const int64_t at = head.row * queries + row;
    query_terms[half] = head.query_bias != nullptr && exists ? head.query_bias[row] : 0.0f;
    log_sum_exp[half] = exists && kIsSoftmax ? p.log_sum_exp[at] : INFINITY;
    along[half] = exists && kIsSoftmax ? p.along[at] : 0.0f;
  }
  Products<kOut> q_grad;
  set_to_zero<kOut>(q_grad);
  const bool sums_distances = p.distance_bias_grad != nullptr;
  const bool sums_rows = p.query_bias_grad != nullptr || p.query_squares != nullptr;
  Sums sums(key_terms + 2 * kKeys);
  if (sums_distances)
    sums.begin(p.partial + (head.row * gridDim.x + block) * partial_length(p) + range.begin);

  int at = 0;
  for (int key = range.begin; key < range.end; key += kKeys, at ^= 1) {
    wait_for_tiles();
    __syncthreads();  // the tile is there, and the other has been read
    if (sums_distances && key > range.begin) sums.join_warps();
    if (key + kKeys < range.end) copy_keys(key + kKeys, at ^ 1);
    FlashPlace place;
    place.row = first + own;
    place.column = key;
    place.distances = distances + at * Shape::kDistances;
    place.shift = kRows - 1 - own;
    place.column_terms = head.key_bias != nullptr ? key_terms + at * kKeys : nullptr;
    const FlashStages<false, kN> stages(p, head, place);
    Products<kN> score_grad;
    if (stages.sees_nothing()) {
      set_to_zero<kN>(score_grad);
      if (sums_distances) sums.add(score_grad, key, p.front);
      continue;
    }
    Products<kN> s;
    begin_multiply_by_rows<kN>(s, tiles.rows, own, tiles.columns(at));
    begin_multiply_by_rows<kN>(score_grad, tiles.row_values, own, tiles.column_values(at));
    wait_for_products<1, kN>(s);
    const float unit = stages.apply(s, query_terms);
    wait_for_products<0, kN>(score_grad);
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float x = s[n][i], weight = Weight::of(x, unit, log_sum_exp[i / 2]);
        score_grad[n][i] = Weight::gradient(x, weight, score_grad[n][i], along[i / 2]);
      }
    }
    stages.apply_slope_of_softclamp(score_grad, s);
    if (sums_rows) {
#pragma unroll
      for (int n = 0; n < kN; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          if (key >= p.front || key + 8 * n + 2 * t + i % 2 >= p.front)
            row_sums[i / 2] += score_grad[n][i];
        }
      }
    }
    Factors<kN> factors;
    pack<T, kN>(factors, score_grad);
    begin_add_product<kN>(q_grad, factors, tiles.columns(at));
    if (sums_distances) sums.add(score_grad, key, p.front);
    wait_for_products<0, kOut>(q_grad);
    keep_until_here<kN>(factors);
  }
  if (sums_distances) sums.finish(range.begin < range.end);
  join_rows(row_sums);
  if (p.query_bias_grad != nullptr && t == 0) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = first + own + 8 * half + g;
      if (row < queries) p.query_bias_grad[head.row * queries + row] = row_sums[half];
    }
  }
  wait_for_copies();
  __syncthreads();  // where there are no keys, the queries may be on their way still
  if (p.query_squares != nullptr) add_gradient_of_square(q_grad, tiles.rows, own, row_sums);
  scale_all<kOut>(q_grad, p.scale);
  write_rows(q_grad, tiles.rows, own, head.memory<T>(p.q_grad), p.q_grad.strides[2], first + own,
             queries, dim);
}

/// Gradients of k, v and key_bias.
template <class Shape, FlashNormaliser kNormaliser>
__global__ void __launch_bounds__(Shape::kThreads, Shape::kBlocks)
    key_kernel(const __grid_constant__ FlashAttention p) {
  using T = typename Shape::Number;
  using Weight = FlashWeight<kNormaliser>;
  constexpr int kN = Shape::kN, kThreads = Shape::kThreads;
  constexpr int kOut = Shape::kDim / 8, kValueOut = Shape::kValueDim / 8;
  constexpr int kRows = Shape::kRows, kQueries = Shape::kColumns;
  constexpr bool kIsSoftmax = kNormaliser != FlashNormaliser::sigmoid;
  extern __shared__ __align__(1024) unsigned char room[];
  const Tiles<Shape> tiles(room);
  float* const distances = tiles.behind();
  float* const query_terms = distances + 2 * Shape::kDistances;
  float* const log_sum_exps = query_terms + 2 * kQueries;
  float* const alongs = log_sum_exps + 2 * kQueries;

  const FlashHead head(p, blockIdx.y);
  // The first keys are seen by the most queries.
  const int first = static_cast<int>(blockIdx.x) * kRows;
  const auto range = seeing_queries(p, first, kRows, kQueries);
  const int queries = static_cast<int>(p.queries), keys = static_cast<int>(p.keys);
  const int dim = static_cast<int>(p.dim), value_dim = static_cast<int>(p.value_dim);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int own = warp * 16;
  const int64_t row_begin = head.row * queries;
  const bool sums_rows = p.key_bias_grad != nullptr || p.query_squares != nullptr;

  TileCopies<kThreads, typename Shape::ColumnTile> q_copies(
      head.memory<const T>(p.q), p.q.strides[2], range.begin, queries, dim);
  TileCopies<kThreads, typename Shape::ColumnValueTile> grad_copies(
      head.memory<const T>(p.out_grad), p.out_grad.strides[2], range.begin, queries, value_dim);
  const auto copy_queries = [&](int query, int at) {
    q_copies.begin(tiles.columns(at));
    grad_copies.begin(tiles.column_values(at));
    if (head.distance_bias != nullptr)
      copy_distances<kThreads>(distances + at * Shape::kDistances, p, head, first,
                               query + kQueries - 1, Shape::kDistances);
    if (head.query_bias != nullptr)
      copy_terms<kThreads>(query_terms + at * kQueries, head.query_bias, query, kQueries, queries);
    if (kIsSoftmax) {
      copy_terms<kThreads>(log_sum_exps + at * kQueries, p.log_sum_exp + row_begin, query, kQueries,
                           queries);
      copy_terms<kThreads>(alongs + at * kQueries, p.along + row_begin, query, kQueries, queries);
    }
  };
  copy_tile<kThreads>(tiles.rows, head.memory<const T>(p.k), p.k.strides[2], first, keys, dim);
  copy_tile<kThreads>(tiles.row_values, head.memory<const T>(p.v), p.v.strides[2], first, keys,
                      value_dim);
  if (range.begin < range.end) copy_queries(range.begin, 0);

  float key_terms[2], row_sums[2] = {0, 0};
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = first + own + 8 * half + g;
    key_terms[half] = head.key_bias != nullptr && row < keys ? head.key_bias[row] : 0.0f;
  }
  Products<kOut> k_grad;
  Products<kValueOut> v_grad;
  set_to_zero<kOut>(k_grad);
  set_to_zero<kValueOut>(v_grad);

  int at = 0;
  for (int query = range.begin; query < range.end; query += kQueries, at ^= 1) {
    wait_for_tiles();
    __syncthreads();  // the tile is there, and the other has been read
    if (query + kQueries < range.end) copy_queries(query + kQueries, at ^ 1);
    FlashPlace place;
    place.row = first + own;
    place.column = query;
    place.distances = distances + at * Shape::kDistances;
    place.shift = kQueries - 1 + own;
    place.column_terms = head.query_bias != nullptr ? query_terms + at * kQueries : nullptr;
    const FlashStages<true, kN> stages(p, head, place);
    if (stages.sees_nothing()) continue;
    Products<kN> s, weights, score_grad;
    begin_multiply_by_rows<kN>(s, tiles.rows, own, tiles.columns(at));
    begin_multiply_by_rows<kN>(score_grad, tiles.row_values, own, tiles.column_values(at));
    wait_for_products<1, kN>(s);
    const float unit = stages.apply(s, key_terms);
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int column = at * kQueries + 8 * n + 2 * t + i % 2;
        weights[n][i] = Weight::of(s[n][i], unit, kIsSoftmax ? log_sum_exps[column] : 0.0f);
      }
    }
    Factors<kN> factors;
    pack<T, kN>(factors, weights);
    begin_add_product<kN>(v_grad, factors, tiles.column_values(at));
    wait_for_products<1, kN>(score_grad);
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int column = at * kQueries + 8 * n + 2 * t + i % 2;
        score_grad[n][i] = Weight::gradient(s[n][i], weights[n][i], score_grad[n][i],
                                            kIsSoftmax ? alongs[column] : 0.0f);
      }
    }
    stages.apply_slope_of_softclamp(score_grad, s);
    if (sums_rows) {
#pragma unroll
      for (int n = 0; n < kN; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) row_sums[i / 2] += score_grad[n][i];
      }
    }
    Factors<kN> grad_factors;
    pack<T, kN>(grad_factors, score_grad);
    begin_add_product<kN>(k_grad, grad_factors, tiles.columns(at));
    wait_for_products<0, kValueOut>(v_grad);
    wait_for_products<0, kOut>(k_grad);
    keep_until_here<kN>(factors);
    keep_until_here<kN>(grad_factors);
  }
  join_rows(row_sums);
  if (p.key_bias_grad != nullptr && t == 0) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = first + own + 8 * half + g;
      if (row < keys) p.key_bias_grad[head.row * keys + row] = row < p.front ? 0 : row_sums[half];
    }
  }
  wait_for_copies();
  __syncthreads();  // where there are no queries, the keys may be on their way still
  if (p.query_squares != nullptr) add_gradient_of_square(k_grad, tiles.rows, own, row_sums);
  scale_all<kOut>(k_grad, p.scale);
  write_rows(k_grad, tiles.rows, own, head.memory<T>(p.k_grad), p.k_grad.strides[2], first + own,
             keys, dim);
  write_rows(v_grad, tiles.row_values, own, head.memory<T>(p.v_grad), p.v_grad.strides[2],
             first + own, keys, value_dim);
}

/// distance_bias_grad from what the blocks have.
__global__ void join_partial_kernel(const __grid_constant__ FlashAttention p) {
  const int64_t distance = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (distance >= p.distances) return;
  const int64_t head = blockIdx.y, blocks = (p.queries + kPartialRows - 1) / kPartialRows;
  const int64_t length = partial_length(p), apart = distance - p.zero + p.keys - p.queries;
  float sum = 0;
  for (int64_t block = 0; block < blocks; ++block) {
    const auto range =
        visible_keys(p, static_cast<int>(block * kPartialRows), kPartialRows, kPartialColumns);
    if (range.begin >= range.end) continue;
    const int64_t tiles = (range.end - range.begin + kPartialColumns - 1) / kPartialColumns;
    // Number key - query + kPartialRows of the block's own queries.
    const int64_t at = apart + block * kPartialRows + kPartialRows;
    const int64_t written = tiles * kPartialColumns + kPartialRows;
    if (at < range.begin || at >= range.begin + written) continue;
    for (int64_t entry = 0; entry < p.batch; ++entry)
      sum += p.partial[((entry * p.heads + head) * blocks + block) * length + at];
  }
  p.distance_bias_grad[head * p.distances + distance] = sum;
}

template <class Shape>
constexpr int query_bytes() {
  constexpr int kFloats =
      2 * (Shape::kDistances + Shape::kColumns) + DistanceSums<Shape::kWarps, Shape::kN>::kFloats;
  return Shape::kTiles * static_cast<int>(sizeof(typename Shape::Number)) +
         kFloats * static_cast<int>(sizeof(float));
}
template <class Shape>
constexpr int key_bytes() {
  constexpr int kFloats = 2 * (Shape::kDistances + 3 * Shape::kColumns);
  return Shape::kTiles * static_cast<int>(sizeof(typename Shape::Number)) +
         kFloats * static_cast<int>(sizeof(float));
}

/// One block for each `rows` of `all`, of each head.
template <class Kernel>
cudaError_t launch(Kernel kernel, const FlashAttention& params, int64_t all, int rows, int threads,
                   int bytes, cudaStream_t stream) {
  const auto error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (error != cudaSuccess) return error;
  const dim3 blocks(static_cast<unsigned>((all + rows - 1) / rows),
                    static_cast<unsigned>(params.batch * params.heads));
  kernel<<<blocks, threads, bytes, stream>>>(params);
  return cudaGetLastError();
}

template <class QueryShape, class KeyShape, FlashNormaliser kNormaliser>
cudaError_t launch_passes(const FlashAttention& params, cudaStream_t stream) {
  static_assert(QueryShape::kRows == kPartialRows && QueryShape::kColumns == kPartialColumns,
                "partial sums are read so");
  auto error = cudaSuccess;
  if (params.queries > 0) {
    error = launch(query_kernel<QueryShape, kNormaliser>, params, params.queries, QueryShape::kRows,
                   QueryShape::kThreads, query_bytes<QueryShape>(), stream);
  }
  if (error != cudaSuccess || params.keys == 0) return error;
  return launch(key_kernel<KeyShape, kNormaliser>, params, params.keys, KeyShape::kRows,
                KeyShape::kThreads, key_bytes<KeyShape>(), stream);
}

template <class QueryShape, class KeyShape>
cudaError_t launch_normaliser(const FlashAttention& params, cudaStream_t stream) {
  switch (params.normaliser) {
    case FlashNormaliser::softmax:
      return launch_passes<QueryShape, KeyShape, FlashNormaliser::softmax>(params, stream);
    case FlashNormaliser::sigmoid:
      return launch_passes<QueryShape, KeyShape, FlashNormaliser::sigmoid>(params, stream);
    case FlashNormaliser::cog_signed:
      return launch_passes<QueryShape, KeyShape, FlashNormaliser::cog_signed>(params, stream);
  }
  return cudaErrorInvalidValue;
}

template <class T>
cudaError_t launch_dim(const FlashAttention& params, cudaStream_t stream) {
  // The numbers of warps and of blocks at once: what was fastest on an H200.
  if (params.value_dim <= 64) {
    if (params.dim <= 64)
      return launch_normaliser<BackwardShape<T, 64, 64, 4, 8, 3>,
                               BackwardShape<T, 64, 64, 4, 8, 2>>(params, stream);
    return launch_normaliser<BackwardShape<T, 128, 64, 4, 8, 2>,
                             BackwardShape<T, 128, 64, 4, 8, 2>>(params, stream);
  }
  return launch_normaliser<BackwardShape<T, 128, 128, 4, 8, 2>,
                           BackwardShape<T, 128, 128, 4, 8, 2>>(params, stream);
}

}  // namespace

int64_t flash_attention_partial(const FlashAttention& params) {
  const auto blocks = (params.queries + kPartialRows - 1) / kPartialRows;
  return params.batch * params.heads * blocks * partial_length(params);
}

cudaError_t flash_attention_backward(const FlashAttention& given, cudaStream_t stream) {
  auto params = given;
  if (params.batch * params.heads == 0) return cudaSuccess;
  auto error = add_squares(params, stream);
  if (error == cudaSuccess && params.normaliser != FlashNormaliser::sigmoid) {
    error = row_products({params.element, params.out, params.out_grad, params.batch, params.heads,
                          params.queries, params.value_dim, 1, params.along},
                         stream);
  }
  if (error != cudaSuccess) return error;
  error = params.element == Element::bfloat16 ? launch_dim<__nv_bfloat16>(params, stream)
                                              : launch_dim<__half>(params, stream);
  if (error != cudaSuccess || params.distance_bias_grad == nullptr) return error;
  constexpr int kThreads = 256;
  const dim3 blocks(static_cast<unsigned>((params.distances + kThreads - 1) / kThreads),
                    static_cast<unsigned>(params.heads));
  join_partial_kernel<<<blocks, kThreads, 0, stream>>>(params);
  return cudaGetLastError();
}

}  // namespace x_transformers::kernels::cuda
