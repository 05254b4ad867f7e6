// Distances of queries and keys as products of longer ones, for engines that know only products.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace x_transformers {

struct DistanceFeatures {
  at::Tensor q, k;  ///< [b, h, i, features], [b, kv_heads, j, features]
};

/// Features beside those of q and k: a square of each, in bfloat16 in three parts, which together
/// have the digits of a float32.
int64_t distance_feature_count(const at::Tensor& q);

/// Features of q [b, h, i, d] and k [b, kv_heads, j, d] whose product is minus half the squared
/// distance of q and k: at least `minimum` of them, and a multiple of `multiple`. Not for float16,
/// whose range squares exceed.
DistanceFeatures distance_features(const at::Tensor& q, const at::Tensor& k, int64_t minimum = 1,
                                   int64_t multiple = 1);

}  // namespace x_transformers
