// Waiting for another thread: first awake, which is the fastest, then asleep, which leaves the core
// to whoever is waited for.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace x_transformers::threads {

/// Nanoseconds of a clock that never goes back.
int64_t now_ns();

/// Sleeps while `word` is `value`; may wake for no reason.
void sleep_while(const std::atomic<uint32_t>& word, uint32_t value);
/// Wakes up to `count` threads that sleep on `word`.
void wake(std::atomic<uint32_t>& word, int count);

/// Tells the processor that this thread waits in a loop.
inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// Whether threads which wait shall sleep at once: the user has asked for it
/// (OMP_WAIT_POLICY=passive), or waiting awake would use up the time that control groups allow.
bool is_passive();

/// How long to stay awake. A thread that finds that it was not running while it waited shares its
/// core with other work, which staying awake keeps from running: for a while all then sleep at
/// once, the longer the more often that is found.
class Patience {
 public:
  /// Waits awake until `is_ready()`, but not for long; whether it is.
  template <class Ready>
  bool wait(const Ready& is_ready) {
    constexpr int kLooks = 32;
    const int64_t begin = now_ns();
    const int64_t end = begin + (is_passive_ || is_crowded(begin) ? kCrowdedNs : kAwakeNs);
    for (int64_t last = begin;;) {
      for (int look = 0; look < kLooks; ++look) {
        if (is_ready()) return true;
        relax();
      }
      const int64_t now = now_ns();
      if (now - last > kGapNs) found_crowded(now);
      if (now >= end) return is_ready();
      last = now;
    }
  }

  /// Whether other work was seen not long before `now`.
  bool is_crowded(int64_t now) const {
    return now < crowded_until_.load(std::memory_order_relaxed);
  }

  /// Other work ran on this core until `now`.
  void found_crowded(int64_t now) {
    const auto until = crowded_until_.load(std::memory_order_relaxed);
    const auto before = crowded_for_.load(std::memory_order_relaxed);
    if (now < until) return;
    const auto length =
        now - until < kForgottenNs ? std::min(4 * before, kMaxCrowdedNs) : kMinCrowdedNs;
    crowded_for_.store(length, std::memory_order_relaxed);
    crowded_until_.store(now + length, std::memory_order_relaxed);
  }

  /// A time in which a thread that runs does something: a longer one says that it did not run.
  static constexpr int64_t kGapNs = 300'000;

 private:
  static constexpr int64_t kAwakeNs = 200'000, kCrowdedNs = 2'000;
  static constexpr int64_t kMinCrowdedNs = 16'000'000, kMaxCrowdedNs = 256'000'000;
  static constexpr int64_t kForgottenNs = 60'000'000;

  const bool is_passive_ = is_passive();
  std::atomic<int64_t> crowded_until_{0}, crowded_for_{kMinCrowdedNs};
};

}  // namespace x_transformers::threads
