// Parameters of a table of distances, made of one number for each bucket of them, on CUDA.
#pragma once

#include <cstdint>

#include "x_transformers/kernels/element.h"
#include "x_transformers/kernels/pass.h"

namespace x_transformers::kernels {

inline constexpr int64_t kMaxTableBuckets = 64;

/// Forward: table[h, d] = scale * weight[b, h] for each bucket b and begins[b] <= d < ends[b].
/// Backward: weight[b, h] becomes scale times the sum of those table[h, d].
struct BucketTable {
  const void* from = nullptr;  ///< forward weight [buckets, heads], backward table [heads, length]
  void* to = nullptr;
  Element element = Element::float32;
  Pass pass = Pass::forward;
  int64_t buckets = 0, heads = 0, length = 0;
  float scale = 1;
  int begins[kMaxTableBuckets] = {}, ends[kMaxTableBuckets] = {};
};

}  // namespace x_transformers::kernels
