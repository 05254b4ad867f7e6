#include "x_transformers/optim/schedule.h"

#include <gtest/gtest.h>

#include "x_transformers/core/error.h"

namespace x_transformers {
namespace {

TEST(ScheduleTest, WarmUpIsLinearAndReachesThePeak) {
  for (const auto shape :
       {ScheduleShape::kConstant, ScheduleShape::kCosine, ScheduleShape::kLinear}) {
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

TEST(ScheduleTest, Names) {
  EXPECT_EQ(schedule_shape("constant"), ScheduleShape::kConstant);
  EXPECT_EQ(schedule_shape("cosine"), ScheduleShape::kCosine);
  EXPECT_EQ(schedule_shape("linear"), ScheduleShape::kLinear);
  EXPECT_THROW(schedule_shape("cosin"), InputError);
}

}  // namespace
}  // namespace x_transformers
