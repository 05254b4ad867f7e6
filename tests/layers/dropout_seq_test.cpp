// Tokens left out of a context in training: how many, which, and what becomes of their mask.
#include "x_transformers/layers/dropout_seq.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace x_transformers {
namespace {

constexpr int64_t kBatch = 2000, kLength = 8;

/// A sequence whose features name the place of each token.
at::Tensor places() {
  return at::arange(kLength, at::kFloat).view({1, kLength, 1}).expand({kBatch, kLength, 1});
}

TEST(DropoutSeq, KeepsTheSameNumberOfOtherTokensInEachRow) {
  at::manual_seed(1);
  const auto [kept, mask] = dropout_seq(places(), {}, 0.3);
  EXPECT_FALSE(mask.defined());
  ASSERT_EQ(kept.size(1), 5);  // 0.7 * 8, rounded down
  const auto counts = at::one_hot(kept.squeeze(-1).to(at::kLong), kLength).sum(1);
  EXPECT_EQ(counts.max().item<int64_t>(), 1);
  // Each token is as likely as any: 5 / 8, within five standard deviations.
  const auto shares = counts.to(at::kFloat).mean(0);
  EXPECT_TRUE(at::allclose(shares, at::full({kLength}, 5.0 / 8), 0, 0.055)) << shares;
}

TEST(DropoutSeq, KeepsATokenAtLeast) {
  EXPECT_EQ(dropout_seq(places(), {}, 0.99).first.size(1), 1);
}

TEST(DropoutSeq, OfAMaskedRowItKeepsThatPartOfWhatExists) {
  at::manual_seed(2);
  const auto exists = (at::arange(kLength) < 3).unsqueeze(0).expand({kBatch, kLength});
  const auto [kept, mask] = dropout_seq(places(), exists, 0.5);
  ASSERT_EQ(mask.sizes(), (at::IntArrayRef{kBatch, 4}));
  EXPECT_TRUE((mask.sum(-1) == 2).all().item<bool>());  // half of 3, rounded up
  EXPECT_LT(kept.squeeze(-1).masked_select(mask).max().item<float>(), 3);
  const auto chosen = kept.squeeze(-1).masked_select(mask).to(at::kLong);
  const auto shares = at::one_hot(chosen, 3).to(at::kFloat).sum(0) / kBatch;
  EXPECT_TRUE(at::allclose(shares, at::full({3}, 2.0 / 3), 0, 0.055)) << shares;
}

}  // namespace
}  // namespace x_transformers
