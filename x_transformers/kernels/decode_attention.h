// Parameters of attention of one query on a static cache, on CUDA.
#pragma once

#include <cstdint>

#include "x_transformers/kernels/element.h"

namespace x_transformers::kernels {

/// The most features of a head, and of the query heads that share a key head together.
inline constexpr int64_t kMostDecodeFeatures = 256, kMostDecodeGroupFeatures = 1024;
/// The most parts of the keys that are joined without a kernel of their own.
inline constexpr int64_t kMostDecodeCluster = 8;

/// Up to so many query heads, all entries together, have a block each; of more, those that share a
/// key head have one together.
inline constexpr int64_t kFewDecodeHeads = 132;

/// How a query and a key are rotated (rotary.h): by the row of the table of their position.
struct DecodeRotation {
  const float* cos = nullptr;  ///< [batch or 1, rotated / 2]; nullptr: not rotated
  const float* sin = nullptr;
  const float* scale = nullptr;  ///< factor of q, divisor of k; nullptr: 1
  int64_t batch_stride = 0;
  int64_t rotated = 0;  ///< a multiple of 8
};

/// The key and value of the query's own token, [batch, kv_heads, dim] with dense features, on their
/// way into the cache, and what is done to the query and the key first: each head divided by its l2
/// norm or least_norm, the factors of the features, the rotation.
struct NewestKey {
  const void* k = nullptr;  ///< nullptr: the cache has them, and nothing of this is done
  const void* v = nullptr;
  int64_t k_strides[2] = {0, 0};  ///< of entries and heads
  int64_t v_strides[2] = {0, 0};
  bool normalises = false;
  float least_norm = 0;
  const void* q_scale = nullptr;  ///< dense [heads, dim]; nullptr: 1
  const void* k_scale = nullptr;  ///< dense [kv_heads, dim]
  DecodeRotation rotation;
};

/// softmax(q k^T * scale) v over the keys that exist. Query head n uses key head n mod kv_heads.
/// Of 16 bits; dim is a power of two from 8 to kMostDecodeFeatures.
struct DecodeAttention {
  const void* q = nullptr;     ///< [batch, heads, dim], with the strides below
  void* k = nullptr;           ///< dense [batch, kv_heads, capacity, dim]
  void* v = nullptr;           ///< the same
  void* out = nullptr;         ///< dense [batch, heads, dim]
  float* partial = nullptr;    ///< dense [batch * kv_heads, splits, heads / kv_heads, dim + 2]
  const int* count = nullptr;  ///< [batch * kv_heads] keys that exist, one at least
  Element element = Element::bfloat16;
  int64_t q_strides[2] = {0, 0};  ///< of entries and heads
  int64_t batch = 0, heads = 0, kv_heads = 0, capacity = 0, dim = 0;
  int64_t splits = 1;  ///< parts that the keys are cut into; with one, `partial` is not used
  float scale = 1;
  /// Is written where the last of the keys that exist belongs. What the cache holds besides must
  /// have been there before the kernel that wrote q, k and v began.
  NewestKey newest;
};

}  // namespace x_transformers::kernels
