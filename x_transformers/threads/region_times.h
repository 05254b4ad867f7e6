// How long the regions of a program take, found out as they run.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

namespace x_transformers::threads {

/// What is known of regions, told apart by their own body and the body of the region before: the
/// same body may run over small and over large tensors.
class RegionTimes {
 public:
  using Body = void (*)(void*);

  struct Entry {
    Body before = nullptr, body = nullptr;
    int64_t alone_ns = 0;      ///< of all parts one after the other; 0: not known
    int64_t shared_ns = 0;     ///< from begin to end, where others may take parts; 0: not known
    int alone_in_turn = 0;     ///< regions since the last one that others could help with
    bool has_barrier = false;  ///< parts have waited for each other

    /// Of a region whose owner took so long for the first of `count` parts, and for all of it.
    void note_shared(int64_t first_part, int64_t whole, int count) {
      take(alone_ns, first_part * count);
      take(shared_ns, whole);
      alone_in_turn = 0;
    }
    void note_alone(int64_t whole) {
      take(alone_ns, whole);
      ++alone_in_turn;
    }

   private:
    /// One that is much longer than those before is not believed at once, for it may be other work
    /// that ran in between.
    static void take(int64_t& known, int64_t measured) {
      constexpr int64_t kMinNs = 1000;
      if (known > 0) measured = std::min(measured, 4 * known + kMinNs);
      known = std::max<int64_t>(1, known == 0 ? measured : (3 * known + measured) / 4);
    }
  };

  /// What is known of a region that begins now.
  Entry& next(Body body) {
    const auto a = reinterpret_cast<uintptr_t>(before_), b = reinterpret_cast<uintptr_t>(body);
    constexpr uint64_t kMix = 0x9e3779b97f4a7c15;  // 2^64 over the golden ratio
    auto& entry = entries_[((a * 3 + b) * kMix) >> (64 - kBits)];
    if (entry.before != before_ || entry.body != body) entry = {.before = before_, .body = body};
    before_ = body;
    return entry;
  }

 private:
  static constexpr int kBits = 8;
  std::array<Entry, std::size_t{1} << kBits> entries_{};
  Body before_ = nullptr;
};

}  // namespace x_transformers::threads
