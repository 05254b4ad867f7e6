#include "x_transformers/ops/polar.h"

#include <gmock/gmock.h>

#include "ops/compare_with_reference.h"
#include "x_transformers/core/error.h"

namespace x_transformers {
namespace {

TEST(Polar, IsARadiusAtAnAngle) {
  at::manual_seed(1);
  const auto t = at::randn({2, 3, 5, 4}), angles = at::randn({1, 3, 5, 4});
  const auto y = polar_positions(t, angles);
  ASSERT_EQ(y.sizes(), (std::vector<int64_t>{2, 3, 5, 8}));
  const auto even = y.narrow(3, 0, 4), odd = y.narrow(3, 4, 4);
  expect_close((even.square() + odd.square()).sqrt(), (1 + t.exp()).log());
  expect_close(at::atan2(odd, even), at::atan2(angles.sin(), angles.cos()).expand_as(t));
}

TEST(Polar, AnglesThatDoNotFitAreRefused) {
  const auto t = at::randn({2, 3, 5, 4});
  for (const auto& angles : {at::randn({1, 3, 4, 4}), at::randn({1, 2, 5, 4}), at::randn({5, 4})})
    EXPECT_THROW(polar_positions(t, angles), InputError);
}

TEST(Polar, OnTheCpuTheReferenceRuns) {
  const auto reports = explain_polar_positions(at::randn({1, 1, 2, 8}), at::randn({1, 1, 2, 8}));
  EXPECT_THAT(reports.front().reasons, testing::Not(testing::IsEmpty()));
  EXPECT_THAT(reports.back().reasons, testing::IsEmpty());
}

}  // namespace
}  // namespace x_transformers
