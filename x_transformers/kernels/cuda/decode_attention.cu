// A block has a key head, or a part of its keys, and all query heads that share it, so that keys
// and values are read once. A few lanes have a key, eight features each; every such slot goes over
// keys of its own and keeps a softmax of its own, and the slots are joined at the end: those of a
// warp by exchange, the warps in shared memory, the parts in a cluster of blocks or, where there
// are too many or the GPU has no clusters, by a second kernel. The newest key may come beside the
// cache: then the first keys of the cache are on their way before the kernel that makes it is over,
// and the slot whose turn it is writes it into the cache. Further stages are in a kernel of their
// own, from the same source: what asks for none pays for none.
#include "x_transformers/kernels/cuda/decode_attention.cuh"

#include <cooperative_groups.h>

#include <cmath>

#include "x_transformers/kernels/cuda/device/dependent_launch.cuh"
#include "x_transformers/kernels/cuda/device/fresh.cuh"
#include "x_transformers/kernels/cuda/device/row_sum.cuh"
#include "x_transformers/kernels/cuda/device/vector.cuh"

namespace x_transformers::kernels::cuda {
namespace {

constexpr int kWarps = 8, kSize = 8;
constexpr float kNothing = -INFINITY;

/// exp(a - b), 0 where there was nothing.
__device__ float share(float a, float b) { return a == kNothing ? 0.0f : __expf(a - b); }

/// The mean of the values; 0 where no key was seen.
__device__ float mean_of(float value, float sum) { return sum == 0 ? 0.0f : value / sum; }

/// A softmax over some keys: the greatest score, the sum of exponentials relative to it, and the
/// values weighted by them, of eight features.
struct Weighted {
  float most = kNothing, sum = 0, values[kSize] = {};

  /// Adds a key without a value.
  __device__ void add_nothing(float score) {
    const float none[kSize] = {};
    join(score, 1.0f, none);
  }

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

/// Eight numbers that an earlier kernel wrote.
template <class T>
__device__ Vector<T, kSize> load_eight(const void* memory, int64_t at) {
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
      cos[i] = is_rotated ? load_fresh(p.cos + at) : 1.0f;
      sin[i] = is_rotated ? load_fresh(p.sin + at) : 0.0f;
      scale[i] = is_rotated && p.scale != nullptr ? load_fresh(p.scale + at) : 1.0f;
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
    static_cast<T*>(p.out)[heads.place_in_out(r, kDim) + f] = from_float<T>(mean_of(value, sum));
  }
  cluster.sync();  // a block stays until nobody reads its memory
#endif
}

/// What is done first to the part of a query or key that a lane has: its norm and its factors.
template <class T, int kLanes>
__device__ void normalise(const NewestKey& p, const void* factors, int64_t head, int feature,
                          float (&x)[kSize]) {
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
}

/// The same, and its rotation.
template <class T, int kLanes>
__device__ void prepare(const NewestKey& p, const Turns& turns, const void* factors, int64_t head,
                        int feature, bool is_key, float (&x)[kSize]) {
  normalise<T, kLanes>(p, factors, head, feature, x);
  turns.turn(x, is_key);
}

/// A number that an earlier kernel wrote, float32 or of T.
template <class T>
__device__ float number_at(const void* memory, int64_t at, bool is_float32) {
  if (is_float32) return load_fresh(static_cast<const float*>(memory) + at);
  return to_float(load_fresh(static_cast<const T*>(memory) + at));
}

/// bound * tanh(score / bound).
__device__ float clamped(float score, float bound) {
  const float power = __expf(2 * score / bound);
  return bound * (1 - 2 / (1 + power));
}

/// The keys that a query sees, in this order: those in front, then those of the cache from `first`
/// on. Without kMore, the cache's.
template <class T, int kDim, bool kMore>
struct SeenKeys {
  int front = 0, first = 0, count;
  int64_t of_front = 0;

  __device__ SeenKeys(const DecodeAttention& p, int entry, int kv_head, int filled)
      : count(filled) {
    if constexpr (kMore) {
      const auto& stages = p.stages;
      front = static_cast<int>(stages.front.count);
      if (stages.past >= 0) first = max(filled - 1 - static_cast<int>(stages.past), 0);
      count = front + filled - first;
      of_front = entry * stages.front.strides[0] + kv_head * stages.front.strides[1];
    }
  }
  __device__ bool is_front(int key) const { return kMore && key < front; }
  /// Its place in the cache.
  __device__ int place(int key) const { return kMore ? key - front + first : key; }
  /// Its row of the keys or values of a cache and of what stands in front, at the lane's feature.
  __device__ const T* row(const T* cache, const void* in_front, int key, int feature) const {
    if (is_front(key))
      return static_cast<const T*>(in_front) + of_front + int64_t{key} * kDim + feature;
    return cache + int64_t{place(key)} * kDim;
  }
};

/// Whether the mask of keys shows this one.
template <class Keys>
__device__ bool is_visible(const DecodeStages& p, const Keys& keys, int entry, int key) {
  if (p.visible == nullptr || keys.is_front(key)) return true;
  return load_fresh(p.visible + entry * p.visible_stride + keys.place(key));
}

/// What is added to the scores of a query head.
template <class T>
struct HeadBias {
  const DecodeBias& p;
  int64_t at_keys = 0;
  float of_query = 0;

  __device__ HeadBias(const DecodeBias& bias, int64_t entry, int64_t head) : p(bias) {
    at_keys = entry * p.key_strides[0] + head * p.key_strides[1];
    if (p.queries != nullptr) {
      of_query = number_at<T>(p.queries, entry * p.query_strides[0] + head * p.query_strides[1],
                              p.is_float32);
    }
  }
  template <class Keys>
  __device__ float of(const Keys& keys, int key) const {
    const bool is_front = keys.is_front(key);
    if (p.keys == nullptr || (is_front && !p.is_of_front)) return 0;
    const int at = is_front ? key - keys.front : keys.place(key);
    return of_query + number_at<T>(p.keys, at_keys + at, p.is_float32);
  }
};

/// Adds the keys that have no value.
template <class T>
__device__ void add_valueless(const DecodeStages& p, int64_t head, Weighted& all) {
  if (p.sink != nullptr) all.add_nothing(number_at<T>(p.sink, head, p.sink_is_float32));
  if (p.has_zero_key) all.add_nothing(0.0f);
}

template <class T, int kLanes, int kGroup, bool kMore>
__global__ void __launch_bounds__(kWarps* kWarp)
    decode_kernel(const __grid_constant__ DecodeAttention p) {
  using Part = Vector<T, kSize>;
  constexpr int kSlots = kWarps * kWarp / kLanes, kDim = kLanes * kSize, kTogether = 4;
  __shared__ float mosts[kWarps][kGroup], sums[kWarps][kGroup];
  extern __shared__ float values_of_warps[];  // [kWarps][kGroup][kDim]
  const Heads<kGroup> heads(p);
  const int thread = threadIdx.x, warp = thread / kWarp, lane = thread % kWarp;
  const int feature = lane % kLanes * kSize, slot = thread / kLanes;
  T* keys = static_cast<T*>(p.k) + heads.row * p.row_keys * kDim + feature;
  T* values = static_cast<T*>(p.v) + heads.row * p.row_keys * kDim + feature;
  const bool brings_newest = p.newest.k != nullptr;

  if (!brings_newest) wait_for_earlier();
  const SeenKeys<T, kDim, kMore> seen(p, heads.entry, heads.kv_head, p.count[heads.row]);
  const int count = seen.count, parts = gridDim.y;
  const int part = (count + parts - 1) / parts, begin = blockIdx.y * part;
  const int end = min(begin + part, count), newest = brings_newest ? count - 1 : count;
  // Read before the first is used, so that they are on their way together.
  Part k[kTogether], v[kTogether];
  const auto load_keys = [&](int base) {
#pragma unroll
    for (int n = 0; n < kTogether; ++n) {
      const int key = min(min(base + n * kSlots + slot, end - 1), max(newest - 1, 0));
      k[n] = Part::load(seen.row(keys, p.stages.front.k, key, feature));
      v[n] = Part::load(seen.row(values, p.stages.front.v, key, feature));
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
        load_eight<T>(p.q, heads.entry * p.q_strides[0] + heads.head(r) * p.q_strides[1] + feature);
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
    newest_key = load_eight<T>(p.newest.k, heads.entry * p.newest.k_strides[0] +
                                               heads.kv_head * p.newest.k_strides[1] + feature);
    newest_value = load_eight<T>(p.newest.v, heads.entry * p.newest.v_strides[0] +
                                                 heads.kv_head * p.newest.v_strides[1] + feature);
    float turned[kSize];
#pragma unroll
    for (int i = 0; i < kSize; ++i) turned[i] = to_float(newest_key.values[i]);
    prepare<T, kLanes>(p.newest, turns, p.newest.k_scale, heads.kv_head, feature, true, turned);
#pragma unroll
    for (int i = 0; i < kSize; ++i) newest_key.values[i] = from_float<T>(turned[i]);
  }
  Weighted all[kGroup];
  if constexpr (kMore) {
    if (slot == 0 && blockIdx.y == 0) {
#pragma unroll
      for (int r = 0; r < kGroup; ++r) add_valueless<T>(p.stages, heads.head(r), all[r]);
    }
  }
  for (int base = begin; base < end; base += kTogether * kSlots) {
    if (base > begin) load_keys(base);
    if constexpr (kMore) {
      if (p.stages.front.prepares && base < seen.front) {
#pragma unroll
        for (int n = 0; n < kTogether; ++n) {
          float in_front[kSize];
#pragma unroll
          for (int i = 0; i < kSize; ++i) in_front[i] = to_float(k[n].values[i]);
          normalise<T, kLanes>(p.newest, p.newest.k_scale, heads.kv_head, feature, in_front);
          const bool is_front = seen.is_front(base + n * kSlots + slot);
#pragma unroll
          for (int i = 0; i < kSize; ++i)
            k[n].values[i] = is_front ? from_float<T>(in_front[i]) : k[n].values[i];
        }
      }
    }
    bool exists[kTogether];
#pragma unroll
    for (int n = 0; n < kTogether; ++n) {
      const int key = base + n * kSlots + slot;
      exists[n] = key < end;
      if (exists[n] && key == newest) {
        k[n] = newest_key;
        v[n] = newest_value;
        if (heads.first == 0) {
          newest_key.store(keys + int64_t{seen.place(key)} * kDim);
          newest_value.store(values + int64_t{seen.place(key)} * kDim);
        }
      }
      if constexpr (kMore) exists[n] = exists[n] && is_visible(p.stages, seen, heads.entry, key);
    }
#pragma unroll
    for (int r = 0; r < kGroup; ++r) {
      float scores[kTogether], added[kTogether];
      if constexpr (kMore) {
        const HeadBias<T> bias(p.stages.bias, heads.entry, heads.head(r));
#pragma unroll
        for (int n = 0; n < kTogether; ++n)
          added[n] = exists[n] ? bias.of(seen, base + n * kSlots + slot) : 0.0f;
      }
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
      if constexpr (kMore) {
        bool counts[kTogether];
#pragma unroll
        for (int n = 0; n < kTogether; ++n) {
          scores[n] += added[n];
          if (p.stages.softclamp > 0) scores[n] = clamped(scores[n], p.stages.softclamp);
          counts[n] = exists[n] && scores[n] != kNothing;
        }
        all[r].add(scores, counts, v);
      } else {
        all[r].add(scores, exists, v);
      }
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
      static_cast<T*>(p.out)[heads.place_in_out(r, kDim) + f] = from_float<T>(mean_of(value, sum));
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
    static_cast<T*>(p.out)[heads.place_in_out(r, dim) + f] = from_float<T>(mean_of(value, sum));
  }
}

template <class T, int kLanes, int kGroup, bool kMore>
cudaError_t launch(const DecodeAttention& params, cudaStream_t stream) {
  constexpr int kBytes = kWarps * kGroup * kLanes * kSize * static_cast<int>(sizeof(float));
  const auto rows = static_cast<unsigned>(params.batch * params.heads / kGroup);
  const dim3 blocks(rows, static_cast<unsigned>(params.splits)), threads(kWarps * kWarp);
  const bool joins = params.splits > 1 && params.splits <= kMostDecodeCluster && has_clusters();
  const auto launched =
      launch_early(decode_kernel<T, kLanes, kGroup, kMore>,
                   {blocks, threads, kBytes, joins ? dim3(1, blocks.y) : dim3(1)}, stream, params);
  if (launched != cudaSuccess || params.splits == 1 || joins) return launched;
  return launch_early(join_parts_kernel<T, kGroup>, {dim3(rows), threads}, stream, params,
                      static_cast<int>(params.splits));
}

template <class T, int kLanes, bool kMore>
cudaError_t launch_group(const DecodeAttention& params, cudaStream_t stream) {
  constexpr int kDim = kLanes * kSize;
  const auto group =
      params.batch * params.heads <= kFewDecodeHeads ? 1 : params.heads / params.kv_heads;
#define XT_GROUP(n)                                                     \
  if constexpr (n * kDim <= kMostDecodeGroupFeatures) {                 \
    if (group == n) return launch<T, kLanes, n, kMore>(params, stream); \
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

template <class T, bool kMore>
cudaError_t launch_lanes(const DecodeAttention& params, cudaStream_t stream) {
  switch (params.dim / kSize) {
    case 1:
      return launch_group<T, 1, kMore>(params, stream);
    case 2:
      return launch_group<T, 2, kMore>(params, stream);
    case 4:
      return launch_group<T, 4, kMore>(params, stream);
    case 8:
      return launch_group<T, 8, kMore>(params, stream);
    case 16:
      return launch_group<T, 16, kMore>(params, stream);
    case 32:
      return launch_group<T, 32, kMore>(params, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

template <class T>
cudaError_t launch_stages(const DecodeAttention& params, cudaStream_t stream) {
  return params.stages.any() ? launch_lanes<T, true>(params, stream)
                             : launch_lanes<T, false>(params, stream);
}

}  // namespace

cudaError_t decode_attention(const DecodeAttention& params, cudaStream_t stream) {
  if (params.batch == 0) return cudaSuccess;
  return params.element == Element::float16 ? launch_stages<__half>(params, stream)
                                            : launch_stages<__nv_bfloat16>(params, stream);
}

}  // namespace x_transformers::kernels::cuda
