#include "x_transformers/ops/mask.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>

namespace x_transformers::mask_test {
namespace {

TEST(MaskedMean, IsOfWhatTheMaskKeeps) {
  const auto x = at::arange(12, at::kFloat).view({2, 3, 2});
  const auto mask = at::tensor({1, 0, 1, 0, 0, 0}).view({2, 3}).to(at::kBool);
  const auto expected = at::tensor({2.0F, 3.0F, 0.0F, 0.0F}).view({2, 2});
  EXPECT_TRUE(masked_mean(x, mask).equal(expected));
  EXPECT_TRUE(masked_mean(x.select(-1, 0), mask).equal(expected.select(-1, 0)));
  EXPECT_TRUE(masked_mean(x, {}).equal(x.mean(1)));
}

TEST(MaskedMean, OneRowOfAMaskStandsForAll) {
  const auto x = at::randn({3, 4, 2});
  const auto mask = at::tensor({1, 1, 0, 0}).view({1, 4}).to(at::kBool);
  EXPECT_TRUE(at::allclose(masked_mean(x, mask), x.narrow(1, 0, 2).mean(1)));
}

TEST(MaskedMean, SeesNothingOfWhatIsLeftOut) {
  auto x = at::ones({1, 2, 1});
  x[0][1][0] = std::numeric_limits<float>::quiet_NaN();
  const auto mask = at::tensor({1, 0}).view({1, 2}).to(at::kBool);
  EXPECT_EQ(masked_mean(x, mask).item<float>(), 1.0F);
}

}  // namespace
}  // namespace x_transformers::mask_test
