// Several ranks in one process: threads that take turns, each with random numbers of its own.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

#include "x_transformers/core/world_place.h"

namespace x_transformers::trainer_test {

/// One rank runs at a time, until it waits in a sum or ends; then the next does. The default CPU
/// generator is a rank's own while it runs, as that of a process would be.
class PretendWorld {
 public:
  using Rank = std::function<void(const WorldPlace& place, const SumOverRanks& sum)>;

  explicit PretendWorld(int64_t world) : given_(static_cast<size_t>(world)) {}

  /// Runs `rank` for each; throws what the first of them threw.
  void run(const Rank& rank) {
    const auto world = static_cast<int64_t>(given_.size());
    running_.assign(given_.size(), true);
    turn_ = 0;
    std::vector<std::thread> threads;
    for (int64_t i = 0; i < world; ++i) {
      threads.emplace_back([this, &rank, i, world] {
        wait(i);
        try {
          rank({i, world}, [this, i](const auto& tensors) { sum(i, tensors); });
        } catch (...) {
          if (!failure_) failure_ = std::current_exception();
        }
        running_[static_cast<size_t>(i)] = false;
        pass(i);
      });
    }
    for (auto& thread : threads) thread.join();
    const auto failure = std::exchange(failure_, nullptr);
    for (auto& tensors : given_) tensors.clear();
    if (failure) std::rethrow_exception(failure);
  }

  /// Sums that were made.
  int64_t sums() const { return sums_; }

 private:
  void wait(int64_t rank) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return turn_ == rank; });
  }

  /// Gives the turn to the next rank that still runs.
  void pass(int64_t rank) {
    const std::lock_guard lock(mutex_);
    const auto world = static_cast<int64_t>(given_.size());
    for (int64_t i = 1; i <= world; ++i) {
      const auto next = (rank + i) % world;
      if (!running_[static_cast<size_t>(next)]) continue;
      turn_ = next;
      break;
    }
    changed_.notify_all();
  }

  void sum(int64_t rank, const std::vector<at::Tensor>& tensors) {
    given_[static_cast<size_t>(rank)] = tensors;
    auto generator = at::globalContext().defaultGenerator(at::kCPU);
    const auto random = generator.get_state().clone();
    pass(rank);
    wait(rank);
    generator.set_state(random);
    if (failure_) throw std::runtime_error("another rank has failed");
    if (rank == 0) add_up();
  }

  /// Every rank waits in a sum: writes it into the tensors of each.
  void add_up() {
    ++sums_;
    for (size_t i = 0; i < given_.front().size(); ++i) {
      auto total = given_.front()[i].clone();
      for (size_t rank = 1; rank < given_.size(); ++rank) {
        ASSERT_EQ(given_[rank].size(), given_.front().size());
        ASSERT_EQ(given_[rank][i].sizes(), total.sizes());
        ASSERT_EQ(given_[rank][i].scalar_type(), total.scalar_type());
        total.add_(given_[rank][i]);
      }
      for (const auto& tensors : given_) at::Tensor(tensors[i]).copy_(total);
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  int64_t turn_ = 0, sums_ = 0;
  std::vector<bool> running_;
  std::vector<std::vector<at::Tensor>> given_;
  std::exception_ptr failure_;
};

}  // namespace x_transformers::trainer_test
