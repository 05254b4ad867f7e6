#include "x_transformers/core/cpu_limits.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "temporary_folder.h"

namespace x_transformers {
namespace {

namespace fs = std::filesystem;

class CpuLimitsTest : public testing::Test {
 protected:
  void SetUp() override {
    root_ = temporary_folder() + "/cpu_limits_" +
            testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(root_);
  }
  void write(const std::string& path, const std::string& text) const {
    const fs::path file = root_ + path;
    fs::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  std::optional<double> quota() const { return cpu_limits(root_).quota; }

  std::string root_;
};

TEST_F(CpuLimitsTest, TakesTheLeastQuotaOnTheWayToTheGroup) {
  write("/proc/self/cgroup", "0::/slice/job\n");
  EXPECT_EQ(quota(), std::nullopt);
  write("/sys/fs/cgroup/slice/job/cpu.max", "max 100000\n");
  EXPECT_EQ(quota(), std::nullopt);
  write("/sys/fs/cgroup/slice/cpu.max", "150000 100000\n");
  EXPECT_EQ(quota(), 1.5);
  write("/sys/fs/cgroup/slice/job/cpu.max", "25000 50000\n");
  EXPECT_EQ(quota(), 0.5);
  write("/sys/fs/cgroup/cpu.max", "10000 100000\n");  // of a container, whose group is its root
  EXPECT_EQ(quota(), 0.1);
}

TEST_F(CpuLimitsTest, ReadsControlGroupsOfTheFirstVersion) {
  write("/proc/self/cgroup", "7:cpuset:/other\n4:cpu,cpuacct:/job\n");
  write("/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "-1\n");
  write("/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(quota(), std::nullopt);
  write("/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "300000\n");
  EXPECT_EQ(quota(), 3.0);
}

TEST_F(CpuLimitsTest, FilesThatAreNoneLimitNothing) {
  write("/proc/self/cgroup", "nonsense\n:\n0::\n");
  write("/sys/fs/cgroup/cpu.max", "many 0\n");
  write("/proc/loadavg", "1.25 0.50 0.10 1/80 5\n");
  EXPECT_EQ(quota(), std::nullopt);
  EXPECT_EQ(cpu_limits(root_).load, 1.25);
}

TEST(CpuLimits, ThreadsAreNoMoreThanCanRun) {
  CpuLimits limits;
  limits.affine = 4;
  EXPECT_EQ(usable_cpus(limits), 4);
  EXPECT_FALSE(exceed_quota(limits));
  limits.quota = 1.5;
  EXPECT_EQ(usable_cpus(limits), 2);
  EXPECT_TRUE(exceed_quota(limits));
  limits.quota = 0.1;
  EXPECT_EQ(usable_cpus(limits), 1);
  limits.quota = 64;
  EXPECT_EQ(usable_cpus(limits), 4);
  EXPECT_FALSE(exceed_quota(limits));
  EXPECT_GE(usable_cpus(), 1);
  EXPECT_LE(usable_cpus(), affine_cpus());

  const int before = at::get_num_threads();
  use_threads(1);
  EXPECT_EQ(at::get_num_threads(), 1);
  use_threads(1000);
  EXPECT_EQ(at::get_num_threads(), usable_cpus());
  at::set_num_threads(before);
}

TEST(CpuLimits, ProcessesOfAHostShareItsProcessors) {
  CpuLimits limits;
  limits.online = limits.affine = 8;
  EXPECT_EQ(share_of_cpus(limits, 1), 8);
  EXPECT_EQ(share_of_cpus(limits, 3), 2);
  EXPECT_EQ(share_of_cpus(limits, 100), 1);
  limits.quota = 4;
  EXPECT_EQ(share_of_cpus(limits, 2), 2);
  // A launcher has bound each of two processes to half of the machine, or each of eight to one.
  limits.quota.reset();
  limits.affine = 4;
  EXPECT_EQ(share_of_cpus(limits, 2), 4);
  limits.affine = 1;
  EXPECT_EQ(share_of_cpus(limits, 8), 1);
}

}  // namespace
}  // namespace x_transformers
