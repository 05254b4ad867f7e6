#include "x_transformers/optim/schedule.h"

#include <gtest/gtest.h>

#include "x_transformers/core/error.h"

namespace x_transformers {
namespace {

TEST(ScheduleTest, WarmUpIsLinearAndReachesThePeak) {
  for (const auto shape : {ScheduleShape::kConstant, ScheduleShape::kCosine, ScheduleShape::kLinear,
                           ScheduleShape::kInverseSqrt, ScheduleShape::kWsd}) {
    const Schedule schedule{shape, 100, 10, 0.1};
    EXPECT_DOUBLE_EQ(schedule.ratio(1), 0.1);
    EXPECT_DOUBLE_EQ(schedule.ratio(5), 0.5);
    EXPECT_DOUBLE_EQ(schedule.ratio(10), 1.0);
  }
}

TEST(ScheduleTest, DescendsToTheLeastRatioAtTheLastStep) {
  const Schedule cosine{ScheduleShape::kCosine, 110, 10, 0.2},
      linear{ScheduleShape::kLinear, 110, 10, 0.2};
  EXPECT_NEAR(cosine.ratio(60), 0.6, 1e-12);
  EXPECT_NEAR(cosine.ratio(35), 0.2 + 0.8 * 0.8535533905932737, 1e-12);
  EXPECT_NEAR(cosine.ratio(110), 0.2, 1e-12);
  EXPECT_NEAR(linear.ratio(35), 0.8, 1e-12);
  EXPECT_NEAR(linear.ratio(110), 0.2, 1e-12);
  EXPECT_NEAR(linear.ratio(500), 0.2, 1e-12);
  EXPECT_DOUBLE_EQ((Schedule{ScheduleShape::kConstant, 110, 10, 0.2}.ratio(110)), 1.0);
}

TEST(ScheduleTest, NoWarmUpAndWarmUpOnly) {
  EXPECT_GT((Schedule{ScheduleShape::kCosine, 10, 0, 0.0}.ratio(1)), 0.9);
  EXPECT_DOUBLE_EQ((Schedule{ScheduleShape::kLinear, 10, 10, 0.0}.ratio(10)), 1.0);
}

TEST(ScheduleTest, InverseSquareRootHangsOnTheWarmUpAlone) {
  const Schedule schedule{ScheduleShape::kInverseSqrt, 1000, 10, 0.0};
  EXPECT_DOUBLE_EQ(schedule.ratio(5), 0.5);
  EXPECT_DOUBLE_EQ(schedule.ratio(10), 1.0);
  EXPECT_DOUBLE_EQ(schedule.ratio(40), 0.5);
  EXPECT_DOUBLE_EQ(schedule.ratio(1000), 0.1);
  EXPECT_DOUBLE_EQ((Schedule{ScheduleShape::kInverseSqrt, 50, 10, 0.0}.ratio(40)), 0.5);
  EXPECT_DOUBLE_EQ((Schedule{ScheduleShape::kInverseSqrt, 1000, 10, 0.3}.ratio(1000)), 0.3);
  EXPECT_DOUBLE_EQ((Schedule{ScheduleShape::kInverseSqrt, 1000, 0, 0.0}.ratio(4)), 0.5);
}

TEST(ScheduleTest, WsdStaysAtThePeakUntilItsDescent) {
  const Schedule schedule{ScheduleShape::kWsd, 100, 10, 0.2, 20};
  EXPECT_DOUBLE_EQ(schedule.ratio(5), 0.5);
  EXPECT_DOUBLE_EQ(schedule.ratio(10), 1.0);
  EXPECT_DOUBLE_EQ(schedule.ratio(80), 1.0);
  EXPECT_NEAR(schedule.ratio(90), 0.6, 1e-12);
  EXPECT_NEAR(schedule.ratio(100), 0.2, 1e-12);
  EXPECT_NEAR(schedule.ratio(150), 0.2, 1e-12);
  // The warm-up comes first.
  EXPECT_DOUBLE_EQ((Schedule{ScheduleShape::kWsd, 100, 90, 0.0, 50}.ratio(90)), 1.0);
  EXPECT_NEAR((Schedule{ScheduleShape::kWsd, 100, 90, 0.0, 50}.ratio(95)), 0.5, 1e-12);
}

TEST(ScheduleTest, Names) {
  EXPECT_EQ(schedule_shape("inverse_sqrt"), ScheduleShape::kInverseSqrt);
  EXPECT_EQ(schedule_shape("wsd"), ScheduleShape::kWsd);
  EXPECT_EQ(schedule_shape("constant"), ScheduleShape::kConstant);
  EXPECT_EQ(schedule_shape("cosine"), ScheduleShape::kCosine);
  EXPECT_EQ(schedule_shape("linear"), ScheduleShape::kLinear);
  EXPECT_THROW(schedule_shape("cosin"), InputError);
}

}  // namespace
}  // namespace x_transformers
