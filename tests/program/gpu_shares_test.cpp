#include "apps/x-transformers/gpu_shares.h"

#include <gtest/gtest.h>

#include <optional>

namespace x_transformers {
namespace {

TEST(GpuSharesTest, GivesEachRunTheGpuWithTheFewest) {
  GpuShares gpus(2, nullptr);
  std::optional<GpuShares::Share> first(gpus), second(gpus), third(gpus);
  EXPECT_EQ(first->visible(), "0");
  EXPECT_EQ(second->visible(), "1");
  EXPECT_EQ(third->visible(), "0");
  second.reset();
  const GpuShares::Share fourth(gpus);
  EXPECT_EQ(fourth.visible(), "1");
}

TEST(GpuSharesTest, KeepsToThoseThatTheUserLetItSee) {
  GpuShares gpus(2, "3,GPU-5f");
  const GpuShares::Share first(gpus), second(gpus);
  EXPECT_EQ(first.visible(), "3");
  EXPECT_EQ(second.visible(), "GPU-5f");
}

}  // namespace
}  // namespace x_transformers
