// A block has a key head, or a part of its keys, and all query heads that share it, so that keys
// and values are read once. A few lanes have a key, eight features each; every such slot goes over
// keys of its own and keeps a softmax of its own, and the slots are joined at the end: those of a
// warp by exchange, the warps in shared memory, the parts in a cluster of blocks or, where there
// are too many or the GPU has no clusters, by a second kernel. The newest key may come beside the
// cache: then the first keys of the cache are on their way before the kernel that makes it is over,
// and the slot whose turn it is writes it into the cache.
#include "x_transformers/kernels/cuda/decode_attention.cuh"

#include <cooperative_groups.h>

#include <cmath>

#include "x_transformers/kernels/cuda/device/dependent_launch.cuh"
#include "x_transformers/kernels/cuda/device/row_sum.cuh"
#include "x_transformers/kernels/cuda/device/vector.cuh"

namespace x_transformers::kernels::cuda {
namespace {

constexpr int kWarps = 8, kSize = 8;
constexpr float kNothing = -INFINITY;

/// exp(a - b), 0 where there was nothing.
__device__ float share(float a, float b) { return a == kNothing ? 0.0f : __expf(a - b); }

/// A softmax over some keys: the greatest score, the sum of exponentials relative to it, and the
/// values weighted by them, of eight features.
struct Weighted {
  float most = kNothing, sum = 0, values[kSize] = {};

  /// Adds keys, those that exist, with their values.
  template <class Part, int kCount>
  __device__ void add(const float (&scores)[kCount], const bool (&exists)[kCount],
                      const Part (&of_keys)[kCount]) {
    float greatest = most;
#pragma unroll
    for (int n = 0; n < kCount; ++n) greatest = exists[n] ? fmaxf(greatest, scores[n]) : greatest;
    const float mine = share(most, greatest);
    most = greatest;
    sum *= mine;
#pragma unroll
    for (int i = 0; i < kSize; ++i) values[i] *= mine;
#pragma unroll
    for (int n = 0; n < kCount; ++n) {
      if (!exists[n]) continue;
      const float weight = __expf(scores[n] - greatest);
      sum += weight;
#pragma unroll
      for (int i = 0; i < kSize; ++i) values[i] += weight * to_float(of_keys[n].values[i]);
    }
  }

  __device__ void join(float other_most, float other_sum, const float (&other_values)[kSize]) {
    const float greater = fmaxf(most, other_most);
    const float mine = share(most, greater), theirs = share(other_most, greater);
    most = greater;
    sum = sum * mine + other_sum * theirs;
#pragma unroll
    for (int i = 0; i < kSize; ++i) values[i] = values[i] * mine + other_values[i] * theirs;
  }
};

/// What a block is about: a row of the cache, and kGroup of the query heads that share it.
template <int kGroup>
struct Heads {
  int row, entry, kv_head, first, kv_heads, of_entry;

  __device__ explicit Heads(const DecodeAttention& p)
      : kv_heads(static_cast<int>(p.kv_heads)), of_entry(static_cast<int>(p.heads)) {
    const int groups = of_entry / kv_heads / kGroup;
    row = static_cast<int>(blockIdx.x) / groups;
    first = static_cast<int>(blockIdx.x) % groups * kGroup;
    entry = row / kv_heads;
    kv_head = row % kv_heads;
  }
  /// The head of query `r` of the group, in the order of the queries.
  __device__ int head(int r) const { return (first + r) * kv_heads + kv_head; }
  __device__ int64_t place_in_out(int r, int dim) const {
    return (int64_t{entry} * of_entry + head(r)) * dim;
  }
};

/// Eight numbers that an earlier kernel wrote, past the first level of the cache, which may be
/// older.
template <class T>
__device__ Vector<T, kSize> load_fresh(const void* memory, int64_t at) {
  const uint4 bits = __ldcg(reinterpret_cast<const uint4*>(static_cast<const T*>(memory) + at));
  return *reinterpret_cast<const Vector<T, kSize>*>(&bits);
}

/// The cosines and sines of a lane's features.
struct Turns {
  float cos[kSize / 2], sin[kSize / 2], scale[kSize / 2];

  __device__ Turns(const DecodeRotation& p, int64_t entry, int feature) {
#pragma unroll
    for (int i = 0; i < kSize / 2; ++i) {
      const int64_t at = entry * p.batch_stride + feature / 2 + i;
      const bool is_rotated = p.cos != nullptr && feature < p.rotated;
      cos[i] = is_rotated ? __ldcg(p.cos + at) : 1.0f;
      sin[i] = is_rotated ? __ldcg(p.sin + at) : 0.0f;
      scale[i] = is_rotated && p.scale != nullptr ? __ldcg(p.scale + at) : 1.0f;
    }
  }
  /// Turns pairs of features. Keys are divided by the scale.
  __device__ void turn(float (&x)[kSize], bool is_key) const {
#pragma unroll
    for (int i = 0; i < kSize / 2; ++i) {
      const float factor = is_key ? 1.0f / scale[i] : scale[i], c = cos[i] * factor,
                  s = sin[i] * factor, even = x[2 * i], odd = x[2 * i + 1];
      x[2 * i] = even * c - odd * s;
      x[2 * i + 1] = odd * c + even * s;
    }
  }
};

/// Whether the parts of a row are a cluster of blocks.
__device__ bool is_cluster_of(int parts) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  return cooperative_groups::this_cluster().dim_blocks().y == parts;
#else
  return false;
#endif
}

/// Joins the parts, which are the blocks of a cluster: each adds up some of the features of all.
/// [kDim] is the greatest score, [kDim + 1] the sum.
template <class T, int kGroup, int kDim>
__device__ void join_cluster(const DecodeAttention& p, const Heads<kGroup>& heads,
                             float (&of_block)[kGroup][kDim + 2]) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  const auto cluster = cooperative_groups::this_cluster();
  const int parts = gridDim.y;
  cluster.sync();
  for (int at = blockIdx.y * kWarps * kWarp + threadIdx.x; at < kGroup * kDim;
       at += parts * kWarps * kWarp) {
    const int r = at / kDim, f = at % kDim;
    float most = kNothing, sum = 0, value = 0;
    for (int part = 0; part < parts; ++part)
      most = fmaxf(most, cluster.map_shared_rank(&of_block[r][kDim], part)[0]);
    for (int part = 0; part < parts; ++part) {
      const float* theirs = cluster.map_shared_rank(&of_block[r][0], part);
      const float weight = share(theirs[kDim], most);
      sum += theirs[kDim + 1] * weight;
      value += theirs[f] * weight;
    }
    static_cast<T*>(p.out)[heads.place_in_out(r, kDim) + f] = from_float<T>(value / sum);
  }
  cluster.sync();  // a block stays until nobody reads its memory
#endif
}

/// What is done to the part of a query or key that a lane has: its norm, its factors, its rotation.
template <class T, int kLanes>
__device__ void prepare(const NewestKey& p, const Turns& turns, const void* factors, int64_t head,
                        int feature, bool is_key, float (&x)[kSize]) {
  if (p.normalises) {
    float squares = 0;
#pragma unroll
    for (int i = 0; i < kSize; ++i) squares += x[i] * x[i];
#pragma unroll
    for (int offset = kLanes / 2; offset > 0; offset /= 2)
      squares += __shfl_xor_sync(0xffffffffu, squares, offset);
    const float norm = sqrtf(squares), inverse = 1.0f / (norm < p.least_norm ? p.least_norm : norm);
#pragma unroll
    for (int i = 0; i < kSize; ++i) x[i] *= inverse;
  }
  if (factors != nullptr) {
    const auto of_head =
        Vector<T, kSize>::load(static_cast<const T*>(factors) + head * kLanes * kSize + feature);
#pragma unroll
    for (int i = 0; i < kSize; ++i) x[i] *= to_float(of_head.values[i]);
  }
  turns.turn(x, is_key);
}

template <class T, int kLanes, int kGroup>
__global__ void __launch_bounds__(kWarps* kWarp)
    decode_kernel(const __grid_constant__ DecodeAttention p) {
  using Part = Vector<T, kSize>;
  constexpr int kSlots = kWarps * kWarp / kLanes, kDim = kLanes * kSize, kTogether = 4;
  __shared__ float mosts[kWarps][kGroup], sums[kWarps][kGroup];
  extern __shared__ float values_of_warps[];  // [kWarps][kGroup][kDim]
  const Heads<kGroup> heads(p);
  const int thread = threadIdx.x, warp = thread / kWarp, lane = thread % kWarp;
  const int feature = lane % kLanes * kSize, slot = thread / kLanes;
  T* keys = static_cast<T*>(p.k) + heads.row * p.capacity * kDim + feature;
  T* values = static_cast<T*>(p.v) + heads.row * p.capacity * kDim + feature;
  const bool brings_newest = p.newest.k != nullptr;

  if (!brings_newest) wait_for_earlier();
  const int count = p.count[heads.row], parts = gridDim.y;
  const int part = (count + parts - 1) / parts, begin = blockIdx.y * part;
  const int end = min(begin + part, count), newest = brings_newest ? count - 1 : count;
  // Read before the first is used, so that they are on their way together.
  Part k[kTogether], v[kTogether];
  const auto load_keys = [&](int base) {
#pragma unroll
    for (int n = 0; n < kTogether; ++n) {
      const int key = min(min(base + n * kSlots + slot, end - 1), max(newest - 1, 0));
      k[n] = Part::load(keys + int64_t{key} * kDim);
      v[n] = Part::load(values + int64_t{key} * kDim);
    }
  };
  if (begin < end) load_keys(begin);
  if (brings_newest) wait_for_earlier();
  let_next_begin();

  float queries[kGroup][kSize];
  const Turns turns(p.newest.rotation, heads.entry, feature);
#pragma unroll
  for (int r = 0; r < kGroup; ++r) {
    const auto q =
        load_fresh<T>(p.q, heads.entry * p.q_strides[0] + heads.head(r) * p.q_strides[1] + feature);
#pragma unroll
    for (int i = 0; i < kSize; ++i) queries[r][i] = to_float(q.values[i]);
    if (brings_newest)
      prepare<T, kLanes>(p.newest, turns, p.newest.q_scale, heads.head(r), feature, false,
                         queries[r]);
#pragma unroll
    for (int i = 0; i < kSize; ++i) queries[r][i] *= p.scale;
  }
  Part newest_key, newest_value;
  if (brings_newest) {
    newest_key = load_fresh<T>(p.newest.k, heads.entry * p.newest.k_strides[0] +
                                               heads.kv_head * p.newest.k_strides[1] + feature);
    newest_value = load_fresh<T>(p.newest.v, heads.entry * p.newest.v_strides[0] +
                                                 heads.kv_head * p.newest.v_strides[1] + feature);
    float turned[kSize];
#pragma unroll
    for (int i = 0; i < kSize; ++i) turned[i] = to_float(newest_key.values[i]);
    prepare<T, kLanes>(p.newest, turns, p.newest.k_scale, heads.kv_head, feature, true, turned);
#pragma unroll
    for (int i = 0; i < kSize; ++i) newest_key.values[i] = from_float<T>(turned[i]);
  }
  Weighted all[kGroup];
  for (int base = begin; base < end; base += kTogether * kSlots) {
    if (base > begin) load_keys(base);
    bool exists[kTogether];
#pragma unroll
    for (int n = 0; n < kTogether; ++n) {
      const int key = base + n * kSlots + slot;
      exists[n] = key < end;
      if (exists[n] && key == newest) {
        k[n] = newest_key;
        v[n] = newest_value;
        if (heads.first == 0) {
          newest_key.store(keys + int64_t{key} * kDim);
          newest_value.store(values + int64_t{key} * kDim);
        }
      }
    }
#pragma unroll
    for (int r = 0; r < kGroup; ++r) {
      float scores[kTogether];
#pragma unroll
      for (int n = 0; n < kTogether; ++n) {
        scores[n] = 0;
#pragma unroll
        for (int i = 0; i < kSize; ++i) scores[n] += queries[r][i] * to_float(k[n].values[i]);
      }
#pragma unroll
      for (int offset = kLanes / 2; offset > 0; offset /= 2) {
#pragma unroll
        for (int n = 0; n < kTogether; ++n)
          scores[n] += __shfl_xor_sync(0xffffffffu, scores[n], offset);
      }
      all[r].add(scores, exists, v);
    }
  }
  // The slots of a warp.
#pragma unroll
  for (int offset = kLanes; offset < kWarp; offset *= 2) {
#pragma unroll
    for (int r = 0; r < kGroup; ++r) {
      const float most = __shfl_xor_sync(0xffffffffu, all[r].most, offset);
      const float sum = __shfl_xor_sync(0xffffffffu, all[r].sum, offset);
      float others[kSize];
#pragma unroll
      for (int i = 0; i < kSize; ++i)
        others[i] = __shfl_xor_sync(0xffffffffu, all[r].values[i], offset);
      all[r].join(most, sum, others);
    }
  }
  if (lane < kLanes) {
#pragma unroll
    for (int r = 0; r < kGroup; ++r) {
#pragma unroll
      for (int i = 0; i < kSize; ++i)
        values_of_warps[(warp * kGroup + r) * kDim + feature + i] = all[r].values[i];
      if (lane == 0) {
        mosts[warp][r] = all[r].most;
        sums[warp][r] = all[r].sum;
      }
    }
  }
  __syncthreads();
  __shared__ float of_block[kGroup][kDim + 2];
  const bool joins = parts > 1 && is_cluster_of(parts);
  // The warps.
  for (int at = thread; at < kGroup * kDim; at += kWarps * kWarp) {
    const int r = at / kDim, f = at % kDim;
    float most = kNothing, sum = 0, value = 0;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) most = fmaxf(most, mosts[w][r]);
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      const float weight = share(mosts[w][r], most);
      sum += sums[w][r] * weight;
      value += values_of_warps[(w * kGroup + r) * kDim + f] * weight;
    }
    if (joins) {
      of_block[r][f] = value;
      if (f == 0) {
        of_block[r][kDim] = most;
        of_block[r][kDim + 1] = sum;
      }
    } else if (parts == 1) {
      static_cast<T*>(p.out)[heads.place_in_out(r, kDim) + f] = from_float<T>(value / sum);
    } else {
      float* partial =
          p.partial + ((int64_t{blockIdx.x} * parts + blockIdx.y) * kGroup + r) * (kDim + 2);
      partial[f] = value;
      if (f == 0) {
        partial[kDim] = most;
        partial[kDim + 1] = sum;
      }
    }
  }
  if (joins) join_cluster<T, kGroup, kDim>(p, heads, of_block);
}

template <class T, int kGroup>
__global__ void join_parts_kernel(const __grid_constant__ DecodeAttention p, int parts) {
  const Heads<kGroup> heads(p);
  const int dim = static_cast<int>(p.dim);
  wait_for_earlier();
  let_next_begin();
  for (int at = threadIdx.x; at < kGroup * dim; at += blockDim.x) {
    const int r = at / dim, f = at % dim;
    const auto partial = [&](int part, int i) {
      return __ldcg(p.partial + ((int64_t{blockIdx.x} * parts + part) * kGroup + r) * (dim + 2) +
                    i);
    };
    float most = kNothing, sum = 0, value = 0;
    for (int part = 0; part < parts; ++part) most = fmaxf(most, partial(part, dim));
    for (int part = 0; part < parts; ++part) {
      const float weight = share(partial(part, dim), most);
      sum += partial(part, dim + 1) * weight;
      value += partial(part, f) * weight;
    }
    static_cast<T*>(p.out)[heads.place_in_out(r, dim) + f] = from_float<T>(value / sum);
  }
}

template <class T, int kLanes, int kGroup>
cudaError_t launch(const DecodeAttention& params, cudaStream_t stream) {
  constexpr int kBytes = kWarps * kGroup * kLanes * kSize * static_cast<int>(sizeof(float));
  const auto rows = static_cast<unsigned>(params.batch * params.heads / kGroup);
  const dim3 blocks(rows, static_cast<unsigned>(params.splits)), threads(kWarps * kWarp);
  const bool joins = params.splits > 1 && params.splits <= kMostDecodeCluster && has_clusters();
  const auto launched =
      launch_early(decode_kernel<T, kLanes, kGroup>,
                   {blocks, threads, kBytes, joins ? dim3(1, blocks.y) : dim3(1)}, stream, params);
  if (launched != cudaSuccess || params.splits == 1 || joins) return launched;
  return launch_early(join_parts_kernel<T, kGroup>, {dim3(rows), threads}, stream, params,
                      static_cast<int>(params.splits));
}

template <class T, int kLanes>
cudaError_t launch_group(const DecodeAttention& params, cudaStream_t stream) {
  constexpr int kDim = kLanes * kSize;
  const auto group =
      params.batch * params.heads <= kFewDecodeHeads ? 1 : params.heads / params.kv_heads;
#define XT_GROUP(n)                                              \
  if constexpr (n * kDim <= kMostDecodeGroupFeatures) {          \
    if (group == n) return launch<T, kLanes, n>(params, stream); \
  }
  XT_GROUP(1)
  XT_GROUP(2)
  XT_GROUP(3)
  XT_GROUP(4)
  XT_GROUP(6)
  XT_GROUP(8)
#undef XT_GROUP
  return cudaErrorInvalidValue;
}

template <class T>
cudaError_t launch_lanes(const DecodeAttention& params, cudaStream_t stream) {
  switch (params.dim / kSize) {
    case 1:
      return launch_group<T, 1>(params, stream);
    case 2:
      return launch_group<T, 2>(params, stream);
    case 4:
      return launch_group<T, 4>(params, stream);
    case 8:
      return launch_group<T, 8>(params, stream);
    case 16:
      return launch_group<T, 16>(params, stream);
    case 32:
      return launch_group<T, 32>(params, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace

cudaError_t decode_attention(const DecodeAttention& params, cudaStream_t stream) {
  if (params.batch == 0) return cudaSuccess;
  return params.element == Element::float16 ? launch_lanes<__half>(params, stream)
                                            : launch_lanes<__nv_bfloat16>(params, stream);
}

}  // namespace x_transformers::kernels::cuda
