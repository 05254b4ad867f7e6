// Threads that run a parallel region together. The parts of a region are taken, not assigned: where
// other work keeps a thread from running, those that run do its parts too. All parts run at the
// same time only where they wait for each other. Where it is not worth while to have help, one
// thread runs all parts.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "x_transformers/threads/region_times.h"
#include "x_transformers/threads/waiting.h"

namespace x_transformers::threads {

class Team;

/// A loop or a list of sections whose pieces the parts of a region take one after the other.
struct SharedWork {
  uint32_t number = 0;  ///< of the region's, in the order in which every part meets them
  int64_t next = 0, end = 0, step = 1, chunk = 1;
  int64_t turn = 0;  ///< the chunk whose ordered code may run begins here
  int parts_left = 0;
};

/// The part of a region that a thread runs.
struct Part {
  Team* team = nullptr;  ///< null: outside of regions, or in one of a single part
  int index = 0;
  int count = 1;
  bool is_active = false;  ///< within a region of more than one part
  uint32_t works_met = 0;
  SharedWork* work = nullptr;
  int64_t chunk_begin = 0, chunk_end = 0;
  std::list<SharedWork> own_works;  ///< without a team
};

/// Where the calling thread is.
Part& current_part();

/// A thread that starts regions, and the threads that help it.
class Team {
 public:
  using Body = RegionTimes::Body;
  static constexpr int kMaxParts = 1024;

  Team() = default;
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;
  ~Team();

  /// body(data) as each of `count` parts. To be called by one thread, outside of regions.
  void run(Body body, void* data, int count);
  /// Waits until every part has come here.
  void barrier(const Part& part);

  std::mutex& mutex() { return mutex_; }
  std::condition_variable& turns() { return turns_; }
  std::list<SharedWork>& works() { return works_; }

 private:
  /// Whether this thread is to run all parts itself.
  bool is_better_alone(Body body, const RegionTimes::Entry& known) const;
  void run_alone(int count, RegionTimes::Entry& known);
  /// Lets others take the parts from `next` on.
  void offer(int next, int count);
  void help();
  void take_parts();
  void run_part(int index, int count);
  void wake_helpers(int count);
  void wait_for_all();

  // What is being run: which region (32 bits), the next part to be taken (16), and of how many
  // (16). Who takes a part by raising the middle knows that the region is still the one that it
  // read.
  alignas(64) std::atomic<uint64_t> ticket_{0};
  alignas(64) std::atomic<uint32_t> region_{0};  ///< as in ticket_; helpers sleep on it
  std::atomic<int> sleepers_{0};
  std::atomic<int64_t> called_at_{0};
  alignas(64) std::atomic<uint32_t> unfinished_{0};  ///< parts; the owner sleeps on it
  std::atomic<bool> owner_sleeps_{false};
  alignas(64) std::atomic<uint32_t> arrived_{0};
  std::atomic<uint32_t> barriers_{0};  ///< passed; parts sleep on it
  std::atomic<int> sleepers_at_barrier_{0};

  Body body_ = nullptr;
  void* data_ = nullptr;
  std::atomic<bool> is_alone_{false};  ///< the owner runs all parts; they are not on offer
  RegionTimes times_;                  ///< of the owner
  std::atomic<bool> is_over_{false};
  Patience patience_;
  std::vector<std::thread> helpers_;

  std::mutex mutex_;  // of works_ and turns_
  std::condition_variable turns_;
  std::list<SharedWork> works_;
};

/// The calling thread's.
Team& own_team();

}  // namespace x_transformers::threads
