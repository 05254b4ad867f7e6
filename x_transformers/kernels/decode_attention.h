// Parameters of attention of one query on a static cache, on CUDA.
#pragma once

#include <cstdint>

#include "x_transformers/kernels/element.h"

namespace x_transformers::kernels {

/// The most features of a head, and of all query heads of a block.
inline constexpr int64_t kMaxDecodeFeatures = 256, kMaxDecodeGroupFeatures = 1024;
/// The most parts of the keys that are joined without a kernel of their own.
inline constexpr int64_t kMaxDecodeCluster = 8;

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

/// Keys and values before those of the cache, which neither mask nor window hides.
struct DecodeFront {
  const void* k = nullptr;  ///< [batch, kv_heads, count, dim], rows dense and one behind the other
  const void* v = nullptr;
  int64_t strides[2] = {0, 0};  ///< of entries and heads
  int64_t count = 0;
  bool prepares = false;  ///< k is yet to be normalised and multiplied as NewestKey says
};

/// What is added to the scores.
struct DecodeBias {
  const void* keys = nullptr;       ///< [batch, heads, capacity], keys dense; nullptr: nothing
  const void* queries = nullptr;    ///< [batch, heads], beside `keys`; nullptr: nothing
  int64_t key_strides[2] = {0, 0};  ///< of entries and heads; 0: one for all
  int64_t query_strides[2] = {0, 0};
  bool is_of_front = false;  ///< keys in front have theirs before `keys`; else none
  bool is_float32 = false;   ///< else of the query's type
};

/// What is done to the scores besides, in the order of the stages (ops/score_stages.h): the bias,
/// the softclamp, the mask and the window, the keys without a value. A query that sees nothing gets
/// 0. Whoever asks for none of it runs a kernel that knows none of it.
struct DecodeStages {
  DecodeBias bias;
  float softclamp = 0;            ///< the bound; 0: none
  const bool* visible = nullptr;  ///< [batch, capacity], keys dense; nullptr: all are
  int64_t visible_stride = 0;     ///< of entries
  int64_t past = -1;              ///< most positions before the last key; -1: any
  const void* sink = nullptr;     ///< dense [heads]: scores of a key without a value
  bool sink_is_float32 = false;   ///< else of the query's type
  bool has_zero_key = false;      ///< one key of zeros, with a value of zeros
  DecodeFront front;

  bool any() const {
    return bias.keys || softclamp > 0 || visible || past >= 0 || sink || has_zero_key ||
           front.count > 0;
  }
};

/// softmax(q k^T * scale) v over the keys that exist, with the further stages. Query head n uses
/// key head n mod kv_heads. Of 16 bits; dim is a power of two from 8 to kMaxDecodeFeatures.
struct DecodeAttention {
  const void* q = nullptr;     ///< [batch, heads, dim], with the strides below
  void* k = nullptr;           ///< [batch, kv_heads, capacity, dim], each head row_keys long
  void* v = nullptr;           ///< the same
  void* out = nullptr;         ///< dense [batch, heads, dim]
  float* partial = nullptr;    ///< dense [batch * kv_heads, splits, heads / kv_heads, dim + 2]
  const int* count = nullptr;  ///< [batch * kv_heads] keys that exist, one at least
  Element element = Element::bfloat16;
  int64_t q_strides[2] = {0, 0};  ///< of entries and heads
  int64_t batch = 0, heads = 0, kv_heads = 0, dim = 0;
  int64_t row_keys = 0;  ///< from the first key of a head to that of the next
  int64_t splits = 1;    ///< parts that the keys are cut into; with one, `partial` is not used
  float scale = 1;
  /// Is written where the last of the keys that exist belongs. What the cache holds besides must
  /// have been there before the kernel that wrote q, k and v began.
  NewestKey newest;
  DecodeStages stages;
};

}  // namespace x_transformers::kernels
