// Ranks joined by TCP, each a thread of this process: sums, and what the others learn of one that
// fails. tests/program/ranks_test.py has them as processes.
#include "x_transformers/distributed/rank_group.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <chrono>
#include <future>
#include <thread>

#include "distributed/tcp_world.h"
#include "x_transformers/core/error.h"
#include "x_transformers/distributed/meeting.h"

namespace x_transformers {
namespace {

using rank_test::expect_none;
using rank_test::World;
using testing::AllOf;
using testing::Each;
using testing::HasSubstr;

/// Numbers of rank `rank`: whole, so that sums of them are exact.
at::Tensor numbers(int64_t rank, at::IntArrayRef sizes, at::ScalarType type) {
  int64_t count = 1;
  for (const int64_t size : sizes) count *= size;
  return (at::arange(count, at::kLong) % 7 + rank).to(type).view(sizes);
}

TEST(RankGroup, SumsTensorsOfEveryTypeAndSize) {
  for (const int64_t world : {2, 3, 4}) {
    SCOPED_TRACE(world);
    expect_none(World(world).run([&](RankGroup& group) {
      const auto rank = group.place().rank;
      // Larger than what goes round at a time, and smaller than a number for each rank.
      const std::vector<std::vector<int64_t>> sizes = {{1}, {3, 5}, {0}, {700, 1000}, {2}};
      std::vector<at::Tensor> tensors, expected;
      for (const auto type : {at::kFloat, at::kDouble, at::kLong, at::kByte, at::kBFloat16}) {
        for (const auto& size : sizes) {
          tensors.push_back(numbers(rank, size, type));
          auto sum = at::zeros_like(tensors.back());
          for (int64_t other = 0; other < world; ++other) sum += numbers(other, size, type);
          expected.push_back(sum);
        }
      }
      auto turned = numbers(rank, {4, 6}, at::kFloat).t();  // not contiguous
      tensors.push_back(turned);
      expected.push_back(numbers(0, {4, 6}, at::kFloat).t() * world + world * (world - 1) / 2);
      group.sum(tensors);
      for (size_t i = 0; i < tensors.size(); ++i)
        EXPECT_TRUE(at::equal(tensors[i], expected[i])) << rank << ", tensor " << i;
      group.leave();
    }));
  }
}

TEST(RankGroup, SumsAreTheSameBitsOnEachRank) {
  std::vector<at::Tensor> sums(4);
  expect_none(World(4).run([&](RankGroup& group) {
    const auto rank = group.place().rank;
    auto generator = at::detail::createCPUGenerator(static_cast<uint64_t>(rank));
    auto tensor = at::randn({100'003}, generator, at::kFloat);
    auto later = at::randn({17}, generator, at::kFloat);
    const auto first = group.start_sum({tensor});
    const auto second = group.start_sum({later});
    second();
    first();
    sums[static_cast<size_t>(rank)] = at::cat({tensor, later});
    group.leave();
  }));
  for (const auto& sum : sums) EXPECT_TRUE(at::equal(sum, sums[0]));
}

TEST(RankGroup, KnowsWhetherSomethingHoldsAnywhere) {
  expect_none(World(3).run([](RankGroup& group) {
    EXPECT_FALSE(group.any(false));
    EXPECT_TRUE(group.any(group.place().rank == 2));
    EXPECT_EQ(group.names().size(), 3U);
    EXPECT_THAT(group.names()[1], HasSubstr("rank 1 on "));
    group.leave();
  }));
}

TEST(RankGroup, MayBeOfOneRank) {
  const auto began = std::chrono::steady_clock::now();
  expect_none(World(1).run([](RankGroup& group) {
    const auto tensor = numbers(3, {5}, at::kFloat);
    group.sum({tensor});
    EXPECT_TRUE(at::equal(tensor, numbers(3, {5}, at::kFloat)));
    EXPECT_EQ(group.most(-4), -4);
    group.leave();
  }));
  expect_none(World(1).run([](RankGroup& group) {
    EXPECT_TRUE(group.report(Notice{{}, "no room on the disk"}, false));  // to nobody
  }));
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(2));
}

TEST(RankGroup, GivesWhatOneRankHas) {
  for (const int64_t world : {1, 2, 3, 4}) {
    SCOPED_TRACE(world);
    expect_none(World(world).run([&](RankGroup& group) {
      const auto rank = group.place().rank;
      const std::vector<std::vector<int64_t>> sizes = {{1}, {3, 5}, {0}, {700, 1001}, {2}};
      std::vector<at::Tensor> tensors, expected;
      std::vector<int64_t> owners;
      for (const auto type : {at::kFloat, at::kDouble, at::kLong, at::kByte, at::kBFloat16}) {
        for (const auto& size : sizes) {
          owners.push_back(static_cast<int64_t>(owners.size()) % world);
          tensors.push_back(numbers(rank, size, type));
          expected.push_back(numbers(owners.back(), size, type));
        }
      }
      owners.push_back(world - 1);
      tensors.push_back(numbers(rank, {4, 6}, at::kFloat).t());  // not contiguous
      expected.push_back(numbers(world - 1, {4, 6}, at::kFloat).t());
      owners.push_back(0);  // its sign is given too
      tensors.push_back(at::full({1}, rank == 0 ? -0.0 : 1.0));
      expected.push_back(at::full({1}, -0.0));
      const auto given = group.start_giving(tensors, owners);
      EXPECT_EQ(group.most(rank), world - 1);
      given();
      for (size_t i = 0; i < tensors.size(); ++i)
        EXPECT_TRUE(at::equal(tensors[i], expected[i])) << rank << ", tensor " << i;
      EXPECT_TRUE(tensors.back().signbit().item<bool>());
      group.leave();
    }));
  }
}

TEST(RankGroup, KnowsTheLargestNumber) {
  expect_none(World(3).run([](RankGroup& group) {
    EXPECT_EQ(group.most(-group.place().rank), 0);
    EXPECT_EQ(group.most(-3 - group.place().rank), -3);
    group.leave();
  }));
}

TEST(RankGroup, AllLearnWhyOneFails) {
  for (const int64_t failing : {0, 2}) {
    SCOPED_TRACE(failing);
    const auto thrown = World(3).run([&](RankGroup& group) {
      if (group.place().rank == failing) {
        // Shown by rank 0 where it is another's.
        EXPECT_EQ(group.report(Notice{{}, "no room on the disk"}, false), failing == 0);
        return;
      }
      group.any(false);
    });
    for (int64_t rank = 0; rank < 3; ++rank) {
      if (rank == failing) continue;
      EXPECT_THAT(thrown[static_cast<size_t>(rank)],
                  AllOf(HasSubstr("rank " + std::to_string(failing) + " on "),
                        HasSubstr("no room on the disk")));
    }
  }
}

TEST(RankGroup, AllLearnWhoIsGone) {
  for (const int64_t gone : {0, 1}) {
    SCOPED_TRACE(gone);
    const auto thrown = World(3).run([&](RankGroup& group) {
      if (group.place().rank == gone) return;  // without a word
      group.any(false);
    });
    for (int64_t rank = 0; rank < 3; ++rank) {
      if (rank == gone) continue;
      EXPECT_THAT(thrown[static_cast<size_t>(rank)],
                  AllOf(HasSubstr("rank " + std::to_string(gone) + " on "),
                        HasSubstr("its process has ended")));
    }
  }
}

TEST(RankGroup, ARankThatHangsIsNamed) {
  std::promise<void> has_thrown;
  auto other_has_thrown = has_thrown.get_future();
  const auto thrown = World(2, /*timeout=*/1).run([&](RankGroup& group) {
    if (group.place().rank == 1) {
      other_has_thrown.wait();  // and does nothing meanwhile
      // What rank 0 had sent before may be there already: that sum ends well, the next cannot.
      group.any(false);
      group.any(false);
      return;
    }
    try {
      group.any(false);
    } catch (const OtherRankFailed&) {
      has_thrown.set_value();
      throw;
    }
  });
  EXPECT_THAT(thrown, Each(AllOf(HasSubstr("rank 1 on "), HasSubstr("hangs"))));
}

TEST(ConnectTo, ANameThatIsUnknownLeadsToMasterAddr) {
  EXPECT_THAT([] { connect_to({"no-such-host.invalid"}, 1, in_seconds(0)); },
              testing::ThrowsMessage<RunError>(
                  AllOf(HasSubstr("no-such-host.invalid: "), HasSubstr("MASTER_ADDR"))));
}

TEST(RankGroup, AStrangerIsNotLetIn) {
  World world(2);
  const auto port = world.environment(1).port;
  std::thread stranger([&] {
    const auto deadline = in_seconds(10);
    const auto noise = connect_to({"127.0.0.1"}, port, deadline);
    send_all(noise, "GET / HTTP/1.1\r\n\r\n", 18, deadline);
    EXPECT_THROW(meet_first(connect_to({"127.0.0.1"}, port, deadline), own_rank_info(1, 1), 2,
                            "another run", deadline),
                 RunError);
  });
  const auto thrown = world.run([&](RankGroup& group) {
    group.any(false);
    group.leave();
  });
  stranger.join();
  expect_none(thrown);
}

TEST(RankMonitor, ASilentRankIsLost) {
  // Rank 1 meets rank 0 and then says nothing.
  const auto listener = listen_at(ListenOn::this_host, 0);
  Meeting silent;
  std::thread other([&] {
    silent = meet_first(connect_to({"127.0.0.1"}, port_of(listener), in_seconds(10)),
                        own_rank_info(1, 1), 2, "key", in_seconds(10));
  });
  auto meeting = meet_others(listener, own_rank_info(0, 1), 2, "key", in_seconds(10));
  other.join();
  RankMonitor monitor(std::move(meeting), {.timeout_seconds = 0.5});
  std::string message;
  try {
    monitor.wait_for_failure(20);
  } catch (const OtherRankFailed& error) {
    message = error.what();
    EXPECT_EQ(error.failure().rank, 1);
    EXPECT_EQ(error.failure().end, RankEnd::lost);
  }
  EXPECT_THAT(message, AllOf(HasSubstr("rank 1 on "), HasSubstr("no sign of life")));
  EXPECT_TRUE(monitor.has_failed());
}

}  // namespace
}  // namespace x_transformers
