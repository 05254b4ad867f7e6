// Devices joined by a pretended way: which sums go between them, and what a rank learns whose
// device waits for one that is gone. The CPU stands for a device.
#include "x_transformers/distributed/joined_device.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <atomic>
#include <map>
#include <memory>

#include "distributed/tcp_world.h"
#include "x_transformers/core/error.h"
#include "x_transformers/distributed/device_sums.h"

namespace x_transformers {
namespace {

using rank_test::expect_none;
using rank_test::World;
using testing::AllOf;
using testing::Each;
using testing::HasSubstr;

/// What the devices of a world share.
struct Wires {
  struct Sum {
    std::vector<at::Tensor> totals;
    int64_t given = 0;
  };
  std::mutex mutex;
  std::condition_variable changed;
  std::map<int64_t, Sum> sums;  // by their number
};

std::mutex all_mutex;
std::map<std::string, std::shared_ptr<Wires>> all_wires;  // by the key
std::atomic<bool> is_broken{false};
std::atomic<int64_t> sums_of_devices{0};
thread_local std::string own_identity;

class PretendSums : public DeviceSums {
 public:
  PretendSums(std::shared_ptr<Wires> wires, const WorldPlace& place)
      : wires_(std::move(wires)), place_(place) {}

  StartedSum start_sum(const std::vector<at::Tensor>& tensors) override {
    const std::lock_guard lock(wires_->mutex);
    TORCH_CHECK(!is_aborted_, "given up");
    ++sums_of_devices;
    const auto number = next_++;
    auto& sum = wires_->sums[number];
    for (size_t i = 0; i < tensors.size(); ++i) {
      if (sum.given == 0) sum.totals.push_back(at::zeros_like(tensors[i]));
      sum.totals[i].add_(tensors[i]);
    }
    ++sum.given;
    wires_->changed.notify_all();
    return [this, tensors, number] {
      std::unique_lock ended(wires_->mutex);
      wires_->changed.wait(
          ended, [&] { return is_aborted_ || wires_->sums[number].given == place_.world; });
      for (size_t i = 0; i < tensors.size() && !is_aborted_; ++i)
        at::Tensor(tensors[i]).copy_(wires_->sums[number].totals[i]);
    };
  }

  StartedSum start_giving(const std::vector<at::Tensor>& tensors,
                          const std::vector<int64_t>& owners) override {
    return giving_by_sums([this](const auto& given) { return start_sum(given); }, place_)(tensors,
                                                                                          owners);
  }

  std::string error() override { return is_broken ? "the link is down" : ""; }

  void abort() override {
    const std::lock_guard lock(wires_->mutex);
    is_aborted_ = true;
    wires_->changed.notify_all();
  }

  void finish() override {}

 private:
  std::shared_ptr<Wires> wires_;
  WorldPlace place_;
  int64_t next_ = 0;
  bool is_aborted_ = false;
};

constexpr DeviceJoining kPretended{
    .unsupported = [] { return std::string(); },
    .identity = [](const c10::Device&) { return own_identity; },
    .make_key =
        [] {
          static std::atomic<char> worlds{0};
          return std::string(static_cast<size_t>(DeviceJoining::kKeyBytes), ++worlds);
        },
    .join = [](const c10::Device&, const WorldPlace& place, const std::string& key) -> DeviceSums* {
      const std::lock_guard lock(all_mutex);
      auto& wires = all_wires[key];
      if (!wires) wires = std::make_shared<Wires>();
      return new PretendSums(wires, place);
    }};

void join(RankGroup& group) {
  own_identity = "device " + std::to_string(group.place().rank);
  group.join_devices(kPretended, at::kCPU);
}

TEST(JoinedDevice, SumsGoBetweenDevicesAndDecisionsByTheHosts) {
  const int64_t before = sums_of_devices;
  expect_none(World(3).run([](RankGroup& group) {
    join(group);
    const auto rank = group.place().rank;
    const auto one = at::full({4}, rank + 1, at::kFloat), other = at::full({2}, 1, at::kBFloat16);
    group.sum({one});
    const auto ends = group.start_sum({other, one});
    EXPECT_EQ(group.most(rank), 2);
    EXPECT_FALSE(group.any(false));
    ends();
    EXPECT_TRUE(at::equal(one, at::full({4}, 18, at::kFloat)));
    EXPECT_TRUE(at::equal(other, at::full({2}, 3, at::kBFloat16)));
    const auto given = at::full({2}, rank, at::kFloat);
    group.start_giving({given}, {1})();
    EXPECT_TRUE(at::equal(given, at::ones({2})));
    group.leave();
  }));
  EXPECT_EQ(sums_of_devices - before, 3 * 3);
}

TEST(JoinedDevice, TwoRanksOfOneDeviceAreRefused) {
  const auto thrown = World(3).run([](RankGroup& group) {
    own_identity = group.place().is_first() ? "device 0" : "device 1";
    group.join_devices(kPretended, at::kCPU, "train.device");
  });
  EXPECT_THAT(thrown, Each(AllOf(HasSubstr("train.device: "), HasSubstr("rank 1 on "),
                                 HasSubstr("rank 2 on "), HasSubstr("of its own"))));
}

TEST(JoinedDevice, ARankWhoseDeviceWaitsLearnsWhoIsGone) {
  const auto thrown = World(3).run([](RankGroup& group) {
    join(group);
    const auto number = at::ones({1});
    group.sum({number});
    if (group.place().rank == 1) return;  // without a word
    group.start_sum({number})();          // which would wait for ever
    group.sum({number});
  });
  for (const size_t rank : {0U, 2U})
    EXPECT_THAT(thrown[rank], AllOf(HasSubstr("rank 1 on "), HasSubstr("its process has ended")));
}

TEST(JoinedDevice, WhatFailsBetweenDevicesIsSaid) {
  const auto thrown = World(1).run([](RankGroup& group) {
    join(group);
    is_broken = true;
    try {
      for (;;) group.most(0);  // also where the host does not ask the device
    } catch (const RunError&) {
      is_broken = false;
      throw;
    }
  });
  EXPECT_THAT(thrown, Each(AllOf(HasSubstr("between the devices"), HasSubstr("the link is down"))));
}

TEST(NcclJoining, SaysWhyItCannotBeHad) {
  const auto reason = nccl_unsupported().line();
  if (reason.empty()) GTEST_SKIP() << "GPUs can be joined here";
  EXPECT_THAT([] { nccl_joining("train.device"); },
              testing::ThrowsMessage<InputError>(
                  HasSubstr("train.device: GPUs cannot be joined: " + reason)));
}

}  // namespace
}  // namespace x_transformers
