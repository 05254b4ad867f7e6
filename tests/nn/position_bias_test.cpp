// Position biases against their definitions.
#include "x_transformers/nn/positions/position_bias.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "ops/our_cuda_kernels.h"
#include "x_transformers/core/error.h"

namespace x_transformers::position_bias_test {
namespace {

constexpr int64_t kBiased = 3, kHeads = 4, kTokens = 5;

/// ALiBi of three of four heads.
AlibiPositionalBias alibi() { return AlibiPositionalBias({kBiased, kHeads}); }

TEST(Alibi, PositionsMayDifferFromHeadToHead) {
  at::manual_seed(2);
  auto bias = alibi();
  const auto slopes = AlibiPositionalBias::default_slopes(kBiased);
  for (const int64_t heads : {int64_t{1}, kBiased, kHeads}) {
    const auto pos = at::randint(12, {2, heads, kTokens}, at::kLong);
    const auto got = bias.forward({pos, pos, 0});
    ASSERT_EQ(got.sizes(), at::IntArrayRef({2, kHeads, kTokens, kTokens})) << heads;
    for (int64_t head = 0; head < kHeads; ++head) {
      const auto own = pos.select(1, heads == 1 ? 0 : std::min(head, heads - 1)).to(at::kFloat);
      const auto distance = (own.unsqueeze(-1) - own.unsqueeze(-2)).abs();
      const auto slope = head < kBiased ? slopes[static_cast<size_t>(head)] : 0.0;
      EXPECT_TRUE(at::allclose(got.select(1, head), distance * -slope)) << heads << " " << head;
    }
  }
}

TEST(Alibi, PositionsOfEachBatchEntryAreOfAllHeads) {
  auto bias = alibi();
  const auto pos = at::randint(12, {2, kTokens}, at::kLong);
  EXPECT_TRUE(
      bias.forward({pos, pos, 0}).equal(bias.forward({pos.unsqueeze(1), pos.unsqueeze(1), 0})));
}

TEST(Alibi, PositionsOfOtherHeadsAreRefused) {
  auto bias = alibi();
  const auto two = at::zeros({2, 2, kTokens}, at::kLong), all = at::zeros({2, kTokens}, at::kLong);
  EXPECT_THROW(bias.forward({two, two, 0}), InputError);
  EXPECT_THROW(bias.forward({two, all, 0}), InputError);
}

class PositionBiasOnCuda : public OnOurCudaKernels {};

/// T5's bias has a table where there are too many buckets for the kernel, too.
TEST_F(PositionBiasOnCuda, HasManyBuckets) {
  for (const int64_t count : {32, 64, 65, 128}) {
    for (const bool causal : {false, true}) {
      RelativePositionBias bias({1.5, causal, count, 200, 3});
      const auto positions = at::arange(150);
      const auto expected = bias.forward({positions, positions, 150});
      bias.to(at::kCUDA);
      const auto there = positions.to(at::kCUDA);
      EXPECT_TRUE(bias.forward({there, there, 150}).cpu().equal(expected)) << count;
    }
  }
}

}  // namespace
}  // namespace x_transformers::position_bias_test
