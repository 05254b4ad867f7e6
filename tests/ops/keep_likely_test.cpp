// What may be drawn of a row of logits, by every engine. The CUDA engine is skipped without a GPU.
#include "x_transformers/ops/keep_likely.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "ops/our_cuda_kernels.h"

namespace x_transformers {
namespace {

const at::Device kLikelyDevice(at::kCUDA, 0);

/// Kept logits are as they were, others -infinity.
void expect_kept_or_gone(const at::Tensor& got, const at::Tensor& logits) {
  const auto gone = got == -std::numeric_limits<double>::infinity();
  EXPECT_TRUE((gone | (got == logits)).all().item<bool>());
}

/// The highest ones are kept, so many; on CUDA of equal ones the first.
void expect_highest(const at::Tensor& got, const at::Tensor& logits, int64_t count, bool first) {
  expect_kept_or_gone(got, logits);
  const auto kept = got.isfinite();
  const auto expected = std::min(count, logits.size(-1));
  EXPECT_TRUE((kept.sum(-1) == expected).all().item<bool>());
  const auto order = std::get<1>(logits.sort(/*stable=*/true, -1, /*descending=*/true));
  const auto exact = at::zeros_like(kept).scatter_(-1, order.narrow(-1, 0, expected), true);
  if (first) {
    EXPECT_TRUE(kept.equal(exact));
  }
  const auto least = got.masked_fill(~kept, std::numeric_limits<float>::infinity()).amin(-1);
  const auto most = logits.masked_fill(kept, -std::numeric_limits<float>::infinity()).amax(-1);
  EXPECT_TRUE((most <= least).all().item<bool>());
}

/// Those before a kept one have at most the share, but for rounding, and those before another more.
void expect_share(const at::Tensor& got, const at::Tensor& logits, double share) {
  constexpr double kRounding = 1e-4;
  expect_kept_or_gone(got, logits);
  const auto kept = got.isfinite();
  EXPECT_TRUE(kept.any(-1).all().item<bool>());
  if (share >= 1) {
    EXPECT_TRUE(kept.all().item<bool>());
    return;
  }
  const auto probabilities = logits.to(at::kDouble).softmax(-1);
  const auto sum = (probabilities * kept).sum(-1);
  const auto least = probabilities.masked_fill(~kept, 2).amin(-1);
  const auto most = probabilities.masked_fill(kept, 0).amax(-1);
  EXPECT_TRUE((sum - least <= share + kRounding).all().item<bool>());
  EXPECT_TRUE((kept.all(-1) | (sum >= share - kRounding)).all().item<bool>());
  EXPECT_TRUE((most <= least).all().item<bool>());
}

at::Tensor some_logits(int64_t rows, int64_t vocab, bool is_rounded) {
  const auto logits = at::randn({rows, vocab}) * 3;
  return is_rounded ? logits.to(at::kBFloat16).to(at::kFloat) : logits;
}

void expect_likely(const std::string& engine, const at::Device& device) {
  for (const int64_t vocab : {1, 7, 300, 50'257, 128'256}) {
    for (const int64_t rows : {1, 3}) {
      for (const bool is_rounded : {false, true}) {
        SCOPED_TRACE(testing::Message() << rows << " x " << vocab);
        const auto logits = some_logits(rows, vocab, is_rounded).to(device);
        for (const int64_t count : {1, 2, 50, 300, 200'000}) {
          SCOPED_TRACE(count);
          expect_highest(keep_likely_on(engine, logits, {.count = count}), logits, count,
                         device.is_cuda());
        }
        for (const double share : {0.0, 0.1, 0.9, 0.999, 1.0, 2.0}) {
          SCOPED_TRACE(share);
          expect_share(keep_likely_on(engine, logits, {.share = share}), logits, share);
        }
      }
    }
  }
}

TEST(KeepLikely, OnTheCpu) { expect_likely("reference", at::kCPU); }

class KeepLikelyOnCuda : public OnOurCudaKernels {};

TEST_F(KeepLikelyOnCuda, AsMeant) { expect_likely("cuda", kLikelyDevice); }

TEST_F(KeepLikelyOnCuda, OfEqualLogitsTheFirst) {
  const auto logits = at::zeros({2, 1000}, kLikelyDevice);
  const auto kept = keep_likely_on("cuda", logits, {.count = 700}).isfinite();
  EXPECT_TRUE(kept.narrow(1, 0, 700).all().item<bool>());
  EXPECT_FALSE(kept.narrow(1, 700, 300).any().item<bool>());
  const auto shared = keep_likely_on("cuda", logits, {.share = 0.2496}).isfinite();
  EXPECT_TRUE(shared.narrow(1, 0, 250).all().item<bool>());
  EXPECT_FALSE(shared.narrow(1, 250, 750).any().item<bool>());
}

/// Tokens that are ruled out already, and NaN, which stays to be seen.
TEST_F(KeepLikelyOnCuda, WhatIsNoNumber) {
  const auto nothing = -std::numeric_limits<float>::infinity();
  const auto logits = at::tensor({nothing, 2.0f, nothing, 1.0f}, kLikelyDevice).view({1, 4});
  for (const auto& likely : {Likely{.count = 3}, Likely{.share = 0.99}})
    EXPECT_TRUE(keep_likely_on("cuda", logits, likely).equal(logits));
  const auto with_nan = logits.clone();
  with_nan[0][0] = std::nanf("");
  for (const auto& likely : {Likely{.count = 1}, Likely{.share = 0.5}})
    EXPECT_TRUE(keep_likely_on("cuda", with_nan, likely).isnan().any().item<bool>());
}

TEST_F(KeepLikelyOnCuda, IsTheSameInEveryRun) {
  const auto logits = some_logits(4, 50'257, false).to(kLikelyDevice);
  const auto once = keep_likely_on("cuda", logits, {.share = 0.95});
  for (int i = 0; i < 5; ++i)
    EXPECT_TRUE(keep_likely_on("cuda", logits, {.share = 0.95}).equal(once));
}

TEST_F(KeepLikelyOnCuda, SaysWhatItDoesNotTake) {
  const auto reasons = [](const at::Tensor& logits) {
    return explain_keep_likely(logits, {.count = 2}).front().reasons;
  };
  const auto refused = testing::Not(testing::IsEmpty());
  EXPECT_THAT(reasons(at::zeros({2, 5}, kLikelyDevice)), testing::IsEmpty());
  EXPECT_THAT(reasons(at::zeros({2, 5})), refused);
  EXPECT_THAT(reasons(at::zeros({2, 5}, kLikelyDevice).to(at::kHalf)), refused);
  EXPECT_THAT(reasons(at::zeros({2, 0}, kLikelyDevice)), refused);
  EXPECT_THAT(reasons(at::zeros({1, 300'000}, kLikelyDevice)), refused);
  EXPECT_THAT(reasons(at::zeros({2, 5}, kLikelyDevice).requires_grad_()), refused);
}

}  // namespace
}  // namespace x_transformers
