// Two passes that both make the weights anew, so that nothing is added by atomics: one with some
// queries a block, which go over their keys, for the gradients of q and of the bias of distances;
// one with some keys a block, which go over the queries that see them, for those of k and v. That
// is seven products of the size of q·k in place of five. Gradients of scores and weights are
// rounded to 16 bits before they are multiplied; sums are float32.
#include "x_transformers/kernels/cuda/device/row_sum.cuh"
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
  static constexpr int kTiles = (kRows + 2 * kColumns) * (kDim + kValueDim);
};

constexpr int kAlongLanes = 16;  ///< of a row, eight features each

/// along = sum of out * out_grad.
template <class T>
__global__ void along_kernel(const __grid_constant__ FlashAttention p) {
  const int64_t at = int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
  if (at >= p.batch * p.heads * p.queries) return;
  const FlashHead head(p, at / p.queries);
  const int64_t query = at % p.queries;
  const int feature = threadIdx.x * kChunk;
  float sum = 0;
  if (feature < p.value_dim) {
    const auto load = [&](const HeadsOfTokens& t) {
      return Vector<T, kChunk>::load(head.memory<const T>(t) + query * t.strides[2] + feature);
    };
    const auto out = load(p.out), grad = load(p.out_grad);
#pragma unroll
    for (int i = 0; i < kChunk; ++i) sum += to_float(out.values[i]) * to_float(grad.values[i]);
  }
  sum = group_sum(sum, blockDim.x);
  if (threadIdx.x == 0) p.along[at] = sum;
}

template <int kM, int kOut>
__device__ void scale_all(Products<kM, kOut>& sums, float factor) {
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int n = 0; n < kOut; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[m][n][i] *= factor;
    }
  }
}

/// gradient -= x * sum of its row: what query_bias or key_bias, minus half of x squared, adds.
template <class T, int kDim>
__device__ void add_gradient_of_square(Products<1, kDim / 8>& gradient, const T* tile, int row,
                                       const float (&sums)[2]) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
#pragma unroll
  for (int n = 0; n < kDim / 8; ++n) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const T* chunk = tile + place_of<kDim>(row + 8 * half + g, n) + 2 * t;
      gradient[0][n][2 * half] -= to_float(chunk[0]) * sums[half];
      gradient[0][n][2 * half + 1] -= to_float(chunk[1]) * sums[half];
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

/// Gradients of q, query_bias and distance_bias.
template <class Shape, FlashNormaliser kNormaliser>
__global__ void __launch_bounds__(Shape::kThreads, Shape::kBlocks)
    query_kernel(const __grid_constant__ FlashAttention p) {
  using T = typename Shape::Number;
  using Weight = FlashWeight<kNormaliser>;
  using Sums = DistanceSums<Shape::kWarps, Shape::kN>;
  constexpr int kDim = Shape::kDim, kValueDim = Shape::kValueDim;
  constexpr int kN = Shape::kN, kThreads = Shape::kThreads;
  constexpr int kRows = Shape::kRows, kKeys = Shape::kColumns;
  constexpr bool kIsSoftmax = kNormaliser != FlashNormaliser::sigmoid;
  extern __shared__ __align__(128) unsigned char room[];
  T* const q_tile = reinterpret_cast<T*>(room);
  T* const grad_tile = q_tile + kRows * kDim;
  T* const k_tiles = grad_tile + kRows * kValueDim;
  T* const v_tiles = k_tiles + 2 * kKeys * kDim;
  float* const distances = reinterpret_cast<float*>(v_tiles + 2 * kKeys * kValueDim);
  float* const key_terms = distances + 2 * Shape::kDistances;

  const FlashHead head(p, blockIdx.y);
  const int block = static_cast<int>(gridDim.x - 1 - blockIdx.x), first = block * kRows;
  const auto range = visible_keys(p, first, kRows, kKeys);
  const int queries = static_cast<int>(p.queries), keys = static_cast<int>(p.keys);
  const int dim = static_cast<int>(p.dim), value_dim = static_cast<int>(p.value_dim);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int own = warp * 16;

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
  copy_tile<kRows, kValueDim, kThreads>(grad_tile, head.memory<const T>(p.out_grad),
                                        p.out_grad.strides[2], first, queries, value_dim);
  if (range.begin < range.end) copy_keys(range.begin, 0);

  float query_terms[1][2], log_sum_exp[2], along[2], row_sums[2] = {0, 0};
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = first + own + 8 * half + g;
    const bool exists = row < queries;
    const int64_t at = head.row * queries + row;
    query_terms[0][half] = head.query_bias != nullptr && exists ? head.query_bias[row] : 0.0f;
    log_sum_exp[half] = exists && kIsSoftmax ? p.log_sum_exp[at] : INFINITY;
    along[half] = exists && kIsSoftmax ? p.along[at] : 0.0f;
  }
  Products<1, kDim / 8> q_grad;
  set_to_zero<1, kDim / 8>(q_grad);
  const bool sums_distances = p.distance_bias_grad != nullptr;
  const bool sums_rows = p.query_bias_grad != nullptr || p.biases_are_squares;
  Sums sums(key_terms + 2 * kKeys);
  if (sums_distances)
    sums.begin(p.partial + (head.row * gridDim.x + block) * partial_length(p) + range.begin);

  int at = 0;
  for (int key = range.begin; key < range.end; key += kKeys, at ^= 1) {
    wait_for_copies();
    __syncthreads();  // the tile is there, and the other has been read
    if (sums_distances && key > range.begin) sums.join_warps();
    if (key + kKeys < range.end) copy_keys(key + kKeys, at ^ 1);
    FlashPlace place;
    place.row = first + own;
    place.column = key;
    place.distances = distances + at * Shape::kDistances;
    place.shift = kRows - 1 - own;
    place.column_terms = head.key_bias != nullptr ? key_terms + at * kKeys : nullptr;
    const FlashStages<false, 1, kN> stages(p, head, place);
    Products<1, kN> score_grad;
    if (stages.sees_nothing()) {
      set_to_zero<1, kN>(score_grad);
      if (sums_distances) sums.add(score_grad, key, p.front);
      continue;
    }
    Products<1, kN> s;
    multiply_by_rows<T, kDim>(s, q_tile, own, k_tiles + at * kKeys * kDim);
    const float unit = stages.apply(s, query_terms);
    multiply_by_rows<T, kValueDim>(score_grad, grad_tile, own, v_tiles + at * kKeys * kValueDim);
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float x = s[0][n][i], weight = Weight::of(x, unit, log_sum_exp[i / 2]);
        score_grad[0][n][i] = Weight::gradient(x, weight, score_grad[0][n][i], along[i / 2]);
      }
    }
    stages.apply_slope_of_softclamp(score_grad, s);
    if (sums_rows) {
#pragma unroll
      for (int n = 0; n < kN; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          if (key >= p.front || key + 8 * n + 2 * t + i % 2 >= p.front)
            row_sums[i / 2] += score_grad[0][n][i];
        }
      }
    }
    if (sums_distances) sums.add(score_grad, key, p.front);
    add_product<T, kDim>(q_grad, score_grad, k_tiles + at * kKeys * kDim);
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
  if (p.biases_are_squares) add_gradient_of_square<T, kDim>(q_grad, q_tile, own, row_sums);
  scale_all<1, kDim / 8>(q_grad, p.scale);
  write_rows<T, kDim>(q_grad, q_tile, own, head.memory<T>(p.q_grad), p.q_grad.strides[2],
                      first + own, queries, dim);
}

/// Gradients of k, v and key_bias.
template <class Shape, FlashNormaliser kNormaliser>
__global__ void __launch_bounds__(Shape::kThreads, Shape::kBlocks)
    key_kernel(const __grid_constant__ FlashAttention p) {
  using T = typename Shape::Number;
  using Weight = FlashWeight<kNormaliser>;
  constexpr int kDim = Shape::kDim, kValueDim = Shape::kValueDim;
  constexpr int kN = Shape::kN, kThreads = Shape::kThreads;
  constexpr int kRows = Shape::kRows, kQueries = Shape::kColumns;
  constexpr bool kIsSoftmax = kNormaliser != FlashNormaliser::sigmoid;
  extern __shared__ __align__(128) unsigned char room[];
  T* const k_tile = reinterpret_cast<T*>(room);
  T* const v_tile = k_tile + kRows * kDim;
  T* const q_tiles = v_tile + kRows * kValueDim;
  T* const grad_tiles = q_tiles + 2 * kQueries * kDim;
  float* const distances = reinterpret_cast<float*>(grad_tiles + 2 * kQueries * kValueDim);
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
  const bool sums_rows = p.key_bias_grad != nullptr || p.biases_are_squares;

  const auto copy_queries = [&](int query, int at) {
    copy_tile<kQueries, kDim, kThreads>(q_tiles + at * kQueries * kDim, head.memory<const T>(p.q),
                                        p.q.strides[2], query, queries, dim);
    copy_tile<kQueries, kValueDim, kThreads>(grad_tiles + at * kQueries * kValueDim,
                                             head.memory<const T>(p.out_grad),
                                             p.out_grad.strides[2], query, queries, value_dim);
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
  copy_tile<kRows, kDim, kThreads>(k_tile, head.memory<const T>(p.k), p.k.strides[2], first, keys,
                                   dim);
  copy_tile<kRows, kValueDim, kThreads>(v_tile, head.memory<const T>(p.v), p.v.strides[2], first,
                                        keys, value_dim);
  if (range.begin < range.end) copy_queries(range.begin, 0);

  float key_terms[1][2], row_sums[2] = {0, 0};
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = first + own + 8 * half + g;
    key_terms[0][half] = head.key_bias != nullptr && row < keys ? head.key_bias[row] : 0.0f;
  }
  Products<1, kDim / 8> k_grad;
  Products<1, kValueDim / 8> v_grad;
  set_to_zero<1, kDim / 8>(k_grad);
  set_to_zero<1, kValueDim / 8>(v_grad);

  int at = 0;
  for (int query = range.begin; query < range.end; query += kQueries, at ^= 1) {
    wait_for_copies();
    __syncthreads();  // the tile is there, and the other has been read
    if (query + kQueries < range.end) copy_queries(query + kQueries, at ^ 1);
    FlashPlace place;
    place.row = first + own;
    place.column = query;
    place.distances = distances + at * Shape::kDistances;
    place.shift = kQueries - 1 + own;
    place.column_terms = head.query_bias != nullptr ? query_terms + at * kQueries : nullptr;
    const FlashStages<true, 1, kN> stages(p, head, place);
    if (stages.sees_nothing()) continue;
    Products<1, kN> s, weights;
    multiply_by_rows<T, kDim>(s, k_tile, own, q_tiles + at * kQueries * kDim);
    const float unit = stages.apply(s, key_terms);
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int column = at * kQueries + 8 * n + 2 * t + i % 2;
        weights[0][n][i] = Weight::of(s[0][n][i], unit, kIsSoftmax ? log_sum_exps[column] : 0.0f);
      }
    }
    add_product<T, kValueDim>(v_grad, weights, grad_tiles + at * kQueries * kValueDim);
    Products<1, kN> score_grad;
    multiply_by_rows<T, kValueDim>(score_grad, v_tile, own, grad_tiles + at * kQueries * kValueDim);
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int column = at * kQueries + 8 * n + 2 * t + i % 2;
        score_grad[0][n][i] = Weight::gradient(s[0][n][i], weights[0][n][i], score_grad[0][n][i],
                                               kIsSoftmax ? alongs[column] : 0.0f);
      }
    }
    stages.apply_slope_of_softclamp(score_grad, s);
    if (sums_rows) {
#pragma unroll
      for (int n = 0; n < kN; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) row_sums[i / 2] += score_grad[0][n][i];
      }
    }
    add_product<T, kDim>(k_grad, score_grad, q_tiles + at * kQueries * kDim);
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
  if (p.biases_are_squares) add_gradient_of_square<T, kDim>(k_grad, k_tile, own, row_sums);
  scale_all<1, kDim / 8>(k_grad, p.scale);
  write_rows<T, kDim>(k_grad, k_tile, own, head.memory<T>(p.k_grad), p.k_grad.strides[2],
                      first + own, keys, dim);
  write_rows<T, kValueDim>(v_grad, v_tile, own, head.memory<T>(p.v_grad), p.v_grad.strides[2],
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
    const int64_t written = tiles * kPartialColumns + kPartialColumns + kPartialRows - 16;
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
  if (params.normaliser != FlashNormaliser::sigmoid && params.queries > 0) {
    const int lanes = params.value_dim <= 64 ? kAlongLanes / 2 : kAlongLanes;
    const int rows = 256 / lanes;
    const auto all = params.batch * params.heads * params.queries;
    along_kernel<T>
        <<<static_cast<unsigned>((all + rows - 1) / rows), dim3(lanes, rows), 0, stream>>>(params);
  }
  // The number of columns and of blocks at once: what was fastest on an H200 at 1,024 keys.
  if (params.value_dim <= 64) {
    if (params.dim <= 64)
      return launch_normaliser<BackwardShape<T, 64, 64, 8, 8, 2>,
                               BackwardShape<T, 64, 64, 8, 8, 1>>(params, stream);
    return launch_normaliser<BackwardShape<T, 128, 64, 8, 8, 1>,
                             BackwardShape<T, 128, 64, 4, 4, 2>>(params, stream);
  }
  return launch_normaliser<BackwardShape<T, 128, 128, 8, 8, 1>,
                           BackwardShape<T, 128, 128, 4, 4, 2>>(params, stream);
}

}  // namespace

int64_t flash_attention_partial(const FlashAttention& params) {
  const auto blocks = (params.queries + kPartialRows - 1) / kPartialRows;
  return params.batch * params.heads * blocks * partial_length(params);
}

cudaError_t flash_attention_backward(const FlashAttention& params, cudaStream_t stream) {
  if (params.batch * params.heads == 0) return cudaSuccess;
  const auto error = params.element == Element::bfloat16 ? launch_dim<__nv_bfloat16>(params, stream)
                                                         : launch_dim<__half>(params, stream);
  if (error != cudaSuccess || params.distance_bias_grad == nullptr) return error;
  constexpr int kThreads = 256;
  const dim3 blocks(static_cast<unsigned>((params.distances + kThreads - 1) / kThreads),
                    static_cast<unsigned>(params.heads));
  join_partial_kernel<<<blocks, kThreads, 0, stream>>>(params);
  return cudaGetLastError();
}

}  // namespace x_transformers::kernels::cuda
