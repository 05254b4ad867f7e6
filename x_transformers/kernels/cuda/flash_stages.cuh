// What happens to a warp's scores between the product of queries and keys and their weights: the
// stages of FlashAttention. Queries are the rows of a tile and keys its columns, or the other way
// round (kKeysInRows).
#pragma once

#include <climits>
#include <cmath>

#include "x_transformers/kernels/cuda/device/matrix_tile.cuh"
#include "x_transformers/kernels/flash_attention.h"

namespace x_transformers::kernels::cuda {

constexpr float kLog2E = 1.44269504088896341f;

/// 2 to the power of x; numbers below the normal ones are 0.
__device__ inline float power_of_2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

struct Range {
  int begin, end;
};

/// How far the position of a query is behind its number.
__device__ inline int first_position(const FlashAttention& p) {
  return static_cast<int>(p.keys - p.queries);
}

/// The keys that queries first.. first + count - 1 may see, from a multiple of `step` on.
__host__ __device__ inline Range visible_keys(const FlashAttention& p, int first, int count,
                                              int step) {
  const int queries = static_cast<int>(p.queries), keys = static_cast<int>(p.keys);
  const int behind = keys - queries;
  const int last = (first + count < queries ? first + count : queries) - 1;
  int begin = 0, end = keys;
  if (p.causal && last + behind + 1 < end) end = last + behind + 1;
  if (p.window >= 0 && first + behind - p.window > 0)
    begin = static_cast<int>(first + behind - p.window);
  return {begin / step * step, end};
}

/// The queries that may see keys first.. first + count - 1, from a multiple of `step` on.
__device__ inline Range seeing_queries(const FlashAttention& p, int first, int count, int step) {
  const int behind = first_position(p);
  const int last = min(first + count, static_cast<int>(p.keys)) - 1;
  int begin = 0, end = static_cast<int>(p.queries);
  if (p.causal) begin = max(first - behind, 0);
  if (p.window >= 0)
    end = static_cast<int>(min(static_cast<int64_t>(end), last + p.window - behind + 1));
  return {begin / step * step, end};
}

/// What the stages of one head read from memory.
struct FlashHead {
  int entry, head;
  int64_t row;  ///< of [batch, heads]
  float slope = 0;
  const float *distance_bias = nullptr, *query_bias = nullptr, *key_bias = nullptr;
  const bool* mask = nullptr;

  __device__ FlashHead(const FlashAttention& p, int64_t row)
      : entry(static_cast<int>(row / p.heads)), head(static_cast<int>(row % p.heads)), row(row) {
    if (p.slopes) slope = p.slopes[head];
    if (p.distance_bias) distance_bias = p.distance_bias + head * p.distances;
    if (p.query_bias) query_bias = p.query_bias + row * p.queries;
    if (p.key_bias) key_bias = p.key_bias + row * p.keys;
    if (p.mask) mask = p.mask + entry * p.mask_strides[0] + head * p.mask_strides[1];
  }

  template <class T>
  __device__ T* memory(const HeadsOfTokens& t) const {
    return static_cast<T*>(t.data) + entry * t.strides[0] + head * t.strides[1];
  }
};

/// Begins to copy the bias of `count` distances, from that of key `key` and query `query` on.
template <int kThreads>
__device__ void copy_distances(float* to, const FlashAttention& p, const FlashHead& head, int key,
                               int query, int count) {
  const int64_t first = key - query - first_position(p) + p.zero;
  for (int i = threadIdx.x; i < count; i += kThreads) {
    const bool exists = first + i >= 0 && first + i < p.distances;
    copy_float(to + i, exists ? head.distance_bias + first + i : head.distance_bias, exists);
  }
}

/// Begins to copy numbers first.. first + count - 1 of `all`.
template <int kThreads>
__device__ void copy_terms(float* to, const float* from, int first, int count, int all) {
  for (int i = threadIdx.x; i < count; i += kThreads) {
    const bool exists = first + i < all;
    copy_float(to + i, exists ? from + first + i : from, exists);
  }
}

/// Where a warp's part of a tile is, and what is added to its scores.
struct FlashPlace {
  int row, column;                      ///< numbers of the first
  const float* distances = nullptr;     ///< shared; of row - column, or column - row, + shift
  int shift = 0;                        ///< for the first row and column
  const float* column_terms = nullptr;  ///< shared
};

template <bool kKeysInRows, int kN>
class FlashStages {
 public:
  __device__ FlashStages(const FlashAttention& p, const FlashHead& head, const FlashPlace& place)
      : p_(p), head_(head), place_(place), behind_(first_position(p)) {
    const int lane = threadIdx.x % 32;
    g_ = lane / 4;
    t_ = lane % 4;
    constexpr int kRows = 16, kColumns = 8 * kN;
    key_ = kKeysInRows ? place.row : place.column;
    query_ = kKeysInRows ? place.column : place.row;
    last_key_ = key_ + (kKeysInRows ? kRows : kColumns) - 1;
    last_query_ = query_ + (kKeysInRows ? kColumns : kRows) - 1;
  }

  /// Whether no row sees a column, of all warps that multiply together: then there is nothing to
  /// compute.
  __device__ bool sees_nothing() const {
    const int before = threadIdx.x / 32 % kWarpsTogether * 16;
    const int behind = (kWarpsTogether - 1) * 16 - before;
    const int key = key_ - (kKeysInRows ? before : 0);
    const int last_key = last_key_ + (kKeysInRows ? behind : 0);
    const int query = query_ - (kKeysInRows ? 0 : before);
    const int last_query = last_query_ + (kKeysInRows ? 0 : behind);
    return (p_.causal && key > last_query + behind_) ||
           (p_.window >= 0 && last_key < query + behind_ - p_.window);
  }

  /// From q·k to scores: what the normaliser gets is, in binary, s times what this returns; hidden
  /// scores are minus infinity. `row_terms` are added where there are column_terms.
  __device__ float apply(Products<kN>& s, const float (&row_terms)[2]) const {
    float unit = p_.scale * kLog2E;
    const bool has_biases =
        place_.column_terms != nullptr || head_.distance_bias != nullptr || p_.slopes != nullptr;
    if (has_biases) {
      if (key_ < p_.front) {
        add_biases<true>(s, unit, row_terms);
      } else {
        add_biases<false>(s, unit, row_terms);
      }
      unit = 1.0f;
    } else if (p_.softclamp > 0) {
      each(s, [&](float& x, int, int, int) { x *= unit; });
      unit = 1.0f;
    }
    if (p_.softclamp > 0) {
      const float bound = p_.softclamp * kLog2E, twice = -2.0f / p_.softclamp;
      each(s, [&](float& x, int, int, int) {
        // tanh, by way of a power that is at most 1.
        const float small = power_of_2(fabsf(x) * twice);
        x = copysignf(bound * __fdividef(1.0f - small, 1.0f + small), x);
      });
    }
    hide(s);
    return unit;
  }

  /// Multiplies gradients by the slope that softclamp has where apply() made `s`.
  __device__ void apply_slope_of_softclamp(Products<kN>& gradients, const Products<kN>& s) const {
    if (p_.softclamp <= 0) return;
    const float inverse = 1.0f / (p_.softclamp * kLog2E);
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float part = s[n][i] * inverse;
        // Of a hidden score it would be 0 times infinity.
        if (s[n][i] != -INFINITY) gradients[n][i] *= 1.0f - part * part;
      }
    }
  }

 private:
  /// body(score, half, row of the warp, column of the tile)
  template <class Body>
  __device__ void each(Products<kN>& s, const Body& body) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int n = 0; n < kN; ++n) {
#pragma unroll
        for (int e = 0; e < 2; ++e)
          body(s[n][2 * half + e], half, 8 * half + g_, 8 * n + 2 * t_ + e);
      }
    }
  }

  /// s times `unit`, and the biases.
  template <bool kHasFront>
  __device__ void add_biases(Products<kN>& s, float unit, const float (&row_terms)[2]) const {
    const int front = static_cast<int>(p_.front) - key_;
    const auto add = [&](float& x, int r, int c, float term) {
      const bool is_biased = !kHasFront || (kKeysInRows ? r : c) >= front;
      x = fmaf(x, unit, is_biased ? term : 0.0f);
    };
    if (place_.column_terms != nullptr) {
      each(s, [&](float& x, int half, int r, int c) {
        add(x, r, c, row_terms[half] + place_.column_terms[c]);
      });
      unit = 1.0f;
    }
    if (head_.distance_bias != nullptr) {
      each(s, [&](float& x, int, int r, int c) {
        add(x, r, c, place_.distances[place_.shift + (kKeysInRows ? r - c : c - r)]);
      });
      unit = 1.0f;
    }
    if (p_.slopes != nullptr) {
      const int apart = key_ - query_ - behind_;
      const float slope = head_.slope * kLog2E;
      each(s, [&](float& x, int, int r, int c) {
        add(x, r, c, -slope * fabsf(static_cast<float>(apart + (kKeysInRows ? r - c : c - r))));
      });
    }
  }

  __device__ void hide(Products<kN>& s) const {
    // Of key - query.
    const int most = p_.causal ? behind_ : INT_MAX;
    const bool has_window = p_.window >= 0 && p_.window < p_.keys;
    const int least = has_window ? behind_ - static_cast<int>(p_.window) : -INT_MAX;
    const int keys = static_cast<int>(p_.keys), queries = static_cast<int>(p_.queries);
    if (last_key_ >= keys || last_query_ >= queries || last_key_ - query_ > most ||
        key_ - last_query_ < least) {
      const int apart = key_ - query_, keys_left = keys - key_, queries_left = queries - query_;
      each(s, [&](float& x, int, int r, int c) {
        const int key = kKeysInRows ? r : c, query = kKeysInRows ? c : r;
        const int distance = apart + key - query;
        if (key >= keys_left || query >= queries_left || distance > most || distance < least)
          x = -INFINITY;
      });
    }
    if (head_.mask == nullptr) return;
    each(s, [&](float& x, int, int r, int c) {
      const int key = key_ + (kKeysInRows ? r : c), query = query_ + (kKeysInRows ? c : r);
      // Behind the last key or query there is no mask.
      if (x != -INFINITY && !head_.mask[query * p_.mask_strides[2] + key * p_.mask_strides[3]])
        x = -INFINITY;
    });
  }

  const FlashAttention& p_;
  const FlashHead& head_;
  const FlashPlace& place_;
  int behind_, g_, t_, key_, query_, last_key_, last_query_;
};

/// A weight, of a score that is x times `unit` in binary, and the gradient of the score; `along` is
/// the sum of out * out_grad.
template <FlashNormaliser kNormaliser>
struct FlashWeight;

template <>
struct FlashWeight<FlashNormaliser::softmax> {
  __device__ static float of(float x, float unit, float log_sum_exp) {
    return power_of_2(fmaf(x, unit, -log_sum_exp));
  }
  __device__ static float gradient(float, float weight, float weight_grad, float along) {
    return weight * (weight_grad - along);
  }
};

template <>
struct FlashWeight<FlashNormaliser::cog_signed> {
  __device__ static float sign(float x) { return x > 0 ? 1.0f : x < 0 ? -1.0f : 0.0f; }
  /// Minus infinity where it is hidden.
  __device__ static float size(float x) { return x == -INFINITY ? x : fabsf(x); }
  __device__ static float of(float x, float unit, float log_sum_exp) {
    return sign(x) * power_of_2(fmaf(size(x), unit, -log_sum_exp));
  }
  __device__ static float gradient(float x, float weight, float weight_grad, float along) {
    return weight * (weight_grad * sign(x) - along);
  }
};

template <>
struct FlashWeight<FlashNormaliser::sigmoid> {
  __device__ static float of(float x, float unit, float) {
    return __fdividef(1.0f, 1.0f + power_of_2(-x * unit));
  }
  __device__ static float gradient(float, float weight, float weight_grad, float) {
    return weight * (1.0f - weight) * weight_grad;
  }
};

}  // namespace x_transformers::kernels::cuda
