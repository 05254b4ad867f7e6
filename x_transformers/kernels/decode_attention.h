// Parameters of attention of one query on a static cache, on CUDA.
#pragma once

#include <cstdint>

#include "x_transformers/kernels/element.h"

namespace x_transformers::kernels {

/// The most features of a head, and of the query heads that share a key head together.
inline constexpr int64_t kMostDecodeFeatures = 256, kMostDecodeGroupFeatures = 1024;

/// softmax(q k^T * scale) v over the keys that exist. Query head n uses key head n mod kv_heads.
/// Of 16 bits; dim is a power of two from 8 to kMostDecodeFeatures.
struct DecodeAttention {
  const void* q = nullptr;     ///< [batch, heads, dim], with the strides below
  const void* k = nullptr;     ///< dense [batch, kv_heads, capacity, dim]
  const void* v = nullptr;     ///< the same
  void* out = nullptr;         ///< dense [batch, heads, dim]
  float* partial = nullptr;    ///< dense [batch * kv_heads, splits, heads / kv_heads, dim + 2]
  const int* count = nullptr;  ///< [batch * kv_heads] keys that exist, one at least
  Element element = Element::bfloat16;
  int64_t q_strides[2] = {0, 0};  ///< of entries and heads
  int64_t batch = 0, heads = 0, kv_heads = 0, capacity = 0, dim = 0;
  int64_t splits = 1;  ///< parts that the keys are cut into; with one, `partial` is not used
  float scale = 1;
};

}  // namespace x_transformers::kernels
