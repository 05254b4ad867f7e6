#include "x_transformers/ops/distance_features.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace x_transformers {
namespace {

/// The products of the features, which are to be minus half the squared distances.
at::Tensor products(const DistanceFeatures& features) {
  const auto k = features.k.to(at::kDouble);
  const auto groups = features.q.size(1) / k.size(1);
  return at::matmul(features.q.to(at::kDouble), k.repeat({1, groups, 1, 1}).transpose(-1, -2));
}

TEST(DistanceFeatures, ProductsAreDistances) {
  at::manual_seed(1);
  for (const int64_t kv_heads : {4, 2}) {
    const auto q = at::randn({2, 4, 5, 8}) + 50, k = at::randn({2, kv_heads, 7, 8}) + 50;
    const auto expected =
        at::cdist(q.to(at::kDouble), k.repeat({1, 4 / kv_heads, 1, 1}).to(at::kDouble)).square() *
        -0.5;
    EXPECT_LT((products(distance_features(q, k)) - expected).abs().max().item<double>(), 1e-4);
  }
}

TEST(DistanceFeatures, BFloat16KeepsTheDigitsOfSquares) {
  at::manual_seed(2);
  const auto q = at::randn({1, 2, 6, 64}).to(at::kBFloat16);
  // A square in one part would be off by up to an eighth.
  const auto of_itself = products(distance_features(q, q)).diagonal(0, -2, -1);
  EXPECT_LT(of_itself.abs().max().item<double>(), 1e-4);
}

TEST(DistanceFeatures, HasTheSizeAskedFor) {
  const auto q = at::randn({1, 1, 3, 8}), half = q.to(at::kBFloat16);
  EXPECT_EQ(distance_feature_count(q), 2);
  EXPECT_EQ(distance_feature_count(half), 6);
  EXPECT_EQ(distance_features(q, q).q.size(-1), 10);
  EXPECT_EQ(distance_features(half, half, 1, 8).k.size(-1), 16);
  EXPECT_EQ(distance_features(half, half, 20, 8).k.size(-1), 24);
  EXPECT_LT((products(distance_features(q, q, 20, 8)) - products(distance_features(q, q)))
                .abs()
                .max()
                .item<double>(),
            1e-5);
}

TEST(DistanceFeatures, GradientsAreThoseOfDistances) {
  at::manual_seed(3);
  const auto leaf = [] { return at::randn({1, 2, 4, 3}, at::kDouble).requires_grad_(); };
  const auto q = leaf(), k = leaf(), weights = at::randn({1, 2, 4, 4}, at::kDouble);
  (products(distance_features(q, k)) * weights).sum().backward();
  const auto q_grad = q.grad().clone(), k_grad = k.grad().clone();
  q.mutable_grad() = k.mutable_grad() = at::Tensor();
  (at::cdist(q, k).square() * -0.5 * weights).sum().backward();
  EXPECT_LT((q_grad - q.grad()).abs().max().item<double>(), 1e-9);
  EXPECT_LT((k_grad - k.grad()).abs().max().item<double>(), 1e-9);
}

}  // namespace
}  // namespace x_transformers
