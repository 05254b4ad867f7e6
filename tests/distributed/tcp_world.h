// Ranks joined by TCP, each a thread of this process.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <exception>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "x_transformers/distributed/rank_group.h"
#include "x_transformers/distributed/socket.h"

namespace x_transformers::rank_test {

/// The ranks of a world meet at a listener of their own.
class World {
 public:
  explicit World(int64_t size, double timeout = 30)
      : size_(size), timeout_(timeout), listener_(listen_at(ListenOn::this_host, 0)) {}

  RankEnvironment environment(int64_t rank) const {
    RankEnvironment environment{
        .place = {rank, size_}, .address = "127.0.0.1", .port = port_of(listener_), .key = "test"};
    if (rank == 0) environment.listener = ::dup(listener_.descriptor());
    return environment;
  }

  /// Runs `work` for each rank in a thread; what each threw, or empty.
  std::vector<std::string> run(const std::function<void(RankGroup&)>& work) {
    std::vector<std::string> thrown(static_cast<size_t>(size_));
    std::vector<std::thread> threads;
    for (int64_t rank = 0; rank < size_; ++rank) {
      threads.emplace_back([&, rank] {
        try {
          RankGroup group(environment(rank), {.timeout_seconds = timeout_});
          work(group);
        } catch (const std::exception& error) {
          thrown[static_cast<size_t>(rank)] = error.what();
        }
      });
    }
    for (auto& thread : threads) thread.join();
    return thrown;
  }

 private:
  int64_t size_;
  double timeout_;
  Socket listener_;
};

inline void expect_none(const std::vector<std::string>& thrown) {
  for (size_t rank = 0; rank < thrown.size(); ++rank) EXPECT_EQ(thrown[rank], "") << rank;
}

}  // namespace x_transformers::rank_test
