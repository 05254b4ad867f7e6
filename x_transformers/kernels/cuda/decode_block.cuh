// Attention of one query on a static cache, by one block. A block has a key head, or a part of
// its keys, and all query heads that share it, so that keys and values are read once. A few lanes
// have a key, eight features each; every such slot goes over keys of its own and keeps a softmax of
// its own, and the slots are joined at the end: those of a warp by exchange, the warps in shared
// memory, the parts in a cluster of blocks or, where there are too many or the GPU has no clusters,
// by a second kernel. The newest key may come beside the cache: then the first keys of the cache
// are on their way before the kernel that makes it is over, and the slot whose turn it is writes it
// into the cache. Further stages are in kernels of their own, from the same source: what asks for
// none pays for none.
#pragma once

#include <cooperative_groups.h>

#include <cmath>

#include "x_transformers/kernels/cuda/device/fresh.cuh"
#include "x_transformers/kernels/cuda/device/packed.cuh"
#include "x_transformers/kernels/cuda/device/row_sum.cuh"
#include "x_transformers/kernels/cuda/device/vector.cuh"
#include "x_transformers/kernels/decode_attention.h"

namespace x_transformers::kernels::cuda::decode {

constexpr int kWarps = 8, kThreads = kWarps * kWarp, kSize = 8;
constexpr float kNothing = -INFINITY;

/// exp(a - b), 0 where there was nothing.
__device__ inline float share(float a, float b) { return a == kNothing ? 0.0f : __expf(a - b); }

/// The mean of the values; 0 where no key was seen.
__device__ inline float mean_of(float value, float sum) { return sum == 0 ? 0.0f : value / sum; }

/// A softmax over some keys: the maximum score, the sum of exponentials relative to it, and the
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
    float maximum = most;
#pragma unroll
    for (int n = 0; n < kCount; ++n) maximum = exists[n] ? fmaxf(maximum, scores[n]) : maximum;
    const float mine = share(most, maximum);
    most = maximum;
    sum *= mine;
#pragma unroll
    for (int i = 0; i < kSize; ++i) values[i] *= mine;
#pragma unroll
    for (int n = 0; n < kCount; ++n) {
      if (!exists[n]) continue;
      const float weight = __expf(scores[n] - maximum);
      sum += weight;
      float of_key[kSize];
      of_keys[n].unpack(of_key);
#pragma unroll
      for (int i = 0; i < kSize; ++i) values[i] += weight * of_key[i];
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

  /// `unit` counts such groups, those of a row of the cache one behind the other.
  __device__ Heads(const DecodeAttention& p, int unit)
      : kv_heads(static_cast<int>(p.kv_heads)), of_entry(static_cast<int>(p.heads)) {
    const int groups = of_entry / kv_heads / kGroup;
    row = unit / groups;
    first = unit % groups * kGroup;
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
__device__ Packed<T, kSize> load_eight(const void* memory, int64_t at) {
  return {load_fresh_words(static_cast<const T*>(memory) + at)};
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
    float of_head[kSize];
    Packed<T, kSize>::load(static_cast<const T*>(factors) + head * kLanes * kSize + feature)
        .unpack(of_head);
#pragma unroll
    for (int i = 0; i < kSize; ++i) x[i] *= of_head[i];
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
__device__ inline float clamped(float score, float bound) {
  const float power = __expf(2 * score / bound);
  return bound * (1 - 2 / (1 + power));
}

/// The keys that a query sees, in this order: those in front, then those of the cache from `first`
/// on. Without kMore, the cache's.
template <class T, int kDim, bool kMore>
struct SeenKeys {
  int front = 0, first = 0, count = 0;
  int64_t of_front = 0;

  SeenKeys() = default;
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

/// Shared memory of a block.
template <int kGroup, int kDim>
struct Room {
  float mosts[kWarps][kGroup], sums[kWarps][kGroup];
  float values[kWarps][kGroup][kDim];
  /// What a part has found, for the others of its cluster: the values, the maximum score, the sum.
  float of_block[kGroup][kDim + 2];
};

/// Which part of the keys a block has.
struct Part {
  int index = 0, count = 1;
};

/// In this order: load_first, what else the caller waits for, run; then write, or in a cluster
/// share, a barrier of the cluster, join and another.
template <class T, int kLanes, int kGroup, bool kMore>
class Block {
  static constexpr int kSlots = kThreads / kLanes, kTogether = 4;

 public:
  static constexpr int kDim = kLanes * kSize;
  using SharedRoom = Room<kGroup, kDim>;

  __device__ Block(const DecodeAttention& params, int unit, Part part, SharedRoom& room)
      : p_(params), heads_(params, unit), unit_(unit), part_(part), room_(room) {
    const int lane = threadIdx.x % kWarp;
    feature_ = lane % kLanes * kSize;
    slot_ = static_cast<int>(threadIdx.x) / kLanes;
    keys_ = static_cast<T*>(p_.k) + heads_.row * p_.row_keys * kDim + feature_;
    values_ = static_cast<T*>(p_.v) + heads_.row * p_.row_keys * kDim + feature_;
  }

  __device__ bool brings_newest() const { return p_.newest.k != nullptr; }

  /// Begins to read the first keys and values, where they do not depend on the kernel before.
  __device__ void load_first() {
    seen_ = Seen(p_, heads_.entry, heads_.kv_head, p_.count[heads_.row]);
    const int share = (seen_.count + part_.count - 1) / part_.count;
    begin_ = part_.index * share;
    end_ = min(begin_ + share, seen_.count);
    newest_ = brings_newest() ? seen_.count - 1 : seen_.count;
    if (begin_ < end_) load_keys(begin_);
  }

  /// Goes over the keys of its part.
  __device__ void run() {
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
    float queries[kGroup][kSize];
    const Turns turns(p_.newest.rotation, heads_.entry, feature_);
#pragma unroll
    for (int r = 0; r < kGroup; ++r) {
      const auto q = load_eight<T>(
          p_.q, heads_.entry * p_.q_strides[0] + heads_.head(r) * p_.q_strides[1] + feature_);
      q.unpack(queries[r]);
      if (brings_newest())
        prepare<T, kLanes>(p_.newest, turns, p_.newest.q_scale, heads_.head(r), feature_, false,
                           queries[r]);
#pragma unroll
      for (int i = 0; i < kSize; ++i) queries[r][i] *= p_.scale;
    }
    Eight newest_key, newest_value;
    if (brings_newest()) {
      newest_key =
          load_eight<T>(p_.newest.k, heads_.entry * p_.newest.k_strides[0] +
                                         heads_.kv_head * p_.newest.k_strides[1] + feature_);
      newest_value =
          load_eight<T>(p_.newest.v, heads_.entry * p_.newest.v_strides[0] +
                                         heads_.kv_head * p_.newest.v_strides[1] + feature_);
      float turned[kSize];
      newest_key.unpack(turned);
      prepare<T, kLanes>(p_.newest, turns, p_.newest.k_scale, heads_.kv_head, feature_, true,
                         turned);
      newest_key = Eight::pack(turned);
    }
    Weighted all[kGroup];
    if constexpr (kMore) {
      if (slot_ == 0 && part_.index == 0) {
#pragma unroll
        for (int r = 0; r < kGroup; ++r) add_valueless<T>(p_.stages, heads_.head(r), all[r]);
      }
    }
    for (int base = begin_; base < end_; base += kTogether * kSlots) {
      if (base > begin_) load_keys(base);
      if constexpr (kMore) {
        if (p_.stages.front.prepares && base < seen_.front) {
#pragma unroll
          for (int n = 0; n < kTogether; ++n) {
            float in_front[kSize];
            k_[n].unpack(in_front);
            normalise<T, kLanes>(p_.newest, p_.newest.k_scale, heads_.kv_head, feature_, in_front);
            if (seen_.is_front(base + n * kSlots + slot_)) k_[n] = Eight::pack(in_front);
          }
        }
      }
      bool exists[kTogether];
#pragma unroll
      for (int n = 0; n < kTogether; ++n) {
        const int key = base + n * kSlots + slot_;
        exists[n] = key < end_;
        if (exists[n] && key == newest_) {
          k_[n] = newest_key;
          v_[n] = newest_value;
          if (heads_.first == 0) {
            newest_key.store(keys_ + int64_t{seen_.place(key)} * kDim);
            newest_value.store(values_ + int64_t{seen_.place(key)} * kDim);
          }
        }
        if constexpr (kMore)
          exists[n] = exists[n] && is_visible(p_.stages, seen_, heads_.entry, key);
      }
#pragma unroll
      for (int r = 0; r < kGroup; ++r) {
        float scores[kTogether], added[kTogether];
        if constexpr (kMore) {
          const HeadBias<T> bias(p_.stages.bias, heads_.entry, heads_.head(r));
#pragma unroll
          for (int n = 0; n < kTogether; ++n)
            added[n] = exists[n] ? bias.of(seen_, base + n * kSlots + slot_) : 0.0f;
        }
#pragma unroll
        for (int n = 0; n < kTogether; ++n) {
          float key[kSize];
          k_[n].unpack(key);
          scores[n] = 0;
#pragma unroll
          for (int i = 0; i < kSize; ++i) scores[n] += queries[r][i] * key[i];
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
            if (p_.stages.softclamp > 0) scores[n] = clamped(scores[n], p_.stages.softclamp);
            counts[n] = exists[n] && scores[n] != kNothing;
          }
          all[r].add(scores, counts, v_);
        } else {
          all[r].add(scores, exists, v_);
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
        for (int i = 0; i < kSize; ++i) room_.values[warp][r][feature_ + i] = all[r].values[i];
        if (lane == 0) {
          room_.mosts[warp][r] = all[r].most;
          room_.sums[warp][r] = all[r].sum;
        }
      }
    }
    __syncthreads();
  }

  /// Writes what the only part has found; as one of several, for join_parts_kernel.
  __device__ void write() const {
    for_each([&](int r, int f, float most, float sum, float value) {
      if (part_.count == 1) return write(r, f, mean_of(value, sum));
      float* partial =
          p_.partial + ((int64_t{unit_} * part_.count + part_.index) * kGroup + r) * (kDim + 2);
      partial[f] = value;
      if (f == 0) {
        partial[kDim] = most;
        partial[kDim + 1] = sum;
      }
    });
  }

  /// Keeps it for the other parts.
  __device__ void share() const {
    for_each([&](int r, int f, float most, float sum, float value) {
      float* mine = room_.of_block[r];
      mine[f] = value;
      if (f == 0) {
        mine[kDim] = most;
        mine[kDim + 1] = sum;
      }
    });
  }

  /// Joins the parts, which are the blocks of a cluster: each adds up some of the features of all.
  __device__ void join() const {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    const auto cluster = cooperative_groups::this_cluster();
    for (int at = part_.index * kThreads + threadIdx.x; at < kGroup * kDim;
         at += part_.count * kThreads) {
      const int r = at / kDim, f = at % kDim;
      constexpr int kMax = static_cast<int>(kMaxDecodeCluster);
      float mosts[kMax], sums[kMax], values[kMax];
      // All are read before the first is used. Beyond the last part, this block's once more.
#pragma unroll
      for (int part = 0; part < kMax; ++part) {
        const int from = part < part_.count ? part : part_.index;
        const float* theirs = cluster.map_shared_rank(&room_.of_block[r][0], from);
        mosts[part] = theirs[kDim];
        sums[part] = theirs[kDim + 1];
        values[part] = theirs[f];
      }
      float most = kNothing, sum = 0, value = 0;
#pragma unroll
      for (int part = 0; part < kMax; ++part) most = fmaxf(most, mosts[part]);
#pragma unroll
      for (int part = 0; part < kMax; ++part) {
        const float weight = part < part_.count ? decode::share(mosts[part], most) : 0.0f;
        sum += sums[part] * weight;
        value += values[part] * weight;
      }
      write(r, f, mean_of(value, sum));
    }
#endif
  }

 private:
  using Eight = Packed<T, kSize>;
  using Seen = SeenKeys<T, kDim, kMore>;

  /// Several are read before the first is used, so that they are on their way together.
  __device__ void load_keys(int base) {
#pragma unroll
    for (int n = 0; n < kTogether; ++n) {
      const int key = min(min(base + n * kSlots + slot_, end_ - 1), max(newest_ - 1, 0));
      k_[n] = Eight::load(seen_.row(keys_, p_.stages.front.k, key, feature_));
      v_[n] = Eight::load(seen_.row(values_, p_.stages.front.v, key, feature_));
    }
  }

  /// body(query, feature, maximum score, sum, value) of what the warps have found.
  template <class Body>
  __device__ void for_each(const Body& body) const {
    for (int at = threadIdx.x; at < kGroup * kDim; at += kThreads) {
      const int r = at / kDim, f = at % kDim;
      float most = kNothing, sum = 0, value = 0;
#pragma unroll
      for (int w = 0; w < kWarps; ++w) most = fmaxf(most, room_.mosts[w][r]);
#pragma unroll
      for (int w = 0; w < kWarps; ++w) {
        const float weight = decode::share(room_.mosts[w][r], most);
        sum += room_.sums[w][r] * weight;
        value += room_.values[w][r][f] * weight;
      }
      body(r, f, most, sum, value);
    }
  }

  __device__ void write(int r, int f, float value) const {
    static_cast<T*>(p_.out)[heads_.place_in_out(r, kDim) + f] = from_float<T>(value);
  }

  const DecodeAttention& p_;
  const Heads<kGroup> heads_;
  const int unit_;
  const Part part_;
  SharedRoom& room_;
  Seen seen_;
  int begin_ = 0, end_ = 0, newest_ = 0, feature_ = 0, slot_ = 0;
  T *keys_, *values_;
  Eight k_[kTogether], v_[kTogether];
};

}  // namespace x_transformers::kernels::cuda::decode
