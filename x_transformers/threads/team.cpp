#include "x_transformers/threads/team.h"

#include <algorithm>
#include <climits>

// Where the program's code begins and ends, as the linker knows it.
extern "C" {
extern const char __executable_start;  // NOLINT(bugprone-reserved-identifier)
extern const char etext;
}

namespace x_transformers::threads {
namespace {

constexpr int kIndexShift = 16;
constexpr int kRegionShift = 32;
constexpr uint64_t kField = 0xffff;

uint64_t ticket_of(uint32_t region, int next, int count) {
  return (uint64_t{region} << kRegionShift) | (static_cast<uint64_t>(next) << kIndexShift) |
         static_cast<uint64_t>(count);
}
int next_of(uint64_t ticket) { return static_cast<int>((ticket >> kIndexShift) & kField); }
int count_of(uint64_t ticket) { return static_cast<int>(ticket & kField); }

/// A region of all parts one after the other: help costs more than it gives below so long. Where
/// other work runs on the cores, a helper that loses its core keeps its part until it runs again.
constexpr int64_t kTooShortNs = 4'000, kTooShortInCrowdNs = 150'000;
/// Regions run alone, since that was as fast, until help is tried again.
constexpr int kAloneInTurn = 64;

/// Whether a body is of the program itself. Those of libraries may wait for each other in ways that
/// are not seen here (MKL's and oneDNN's do), and so need threads of their own.
bool is_own_code(Team::Body body) {
  const auto place = reinterpret_cast<uintptr_t>(body);
  return place >= reinterpret_cast<uintptr_t>(&__executable_start) &&
         place < reinterpret_cast<uintptr_t>(&etext);
}

}  // namespace

Part& current_part() {
  thread_local Part part;
  return part;
}

Team& own_team() {
  thread_local Team team;
  return team;
}

Team::~Team() {
  is_over_ = true;
  region_.fetch_add(1);
  wake(region_, INT_MAX);
  for (auto& helper : helpers_) helper.join();
}

void Team::run(Body body, void* data, int count) {
  body_ = body;
  data_ = data;
  unfinished_.store(static_cast<uint32_t>(count), std::memory_order_relaxed);
  auto& known = times_.next(body);
  if (is_better_alone(body, known)) return run_alone(count, known);
  offer(1, count);
  const int64_t begin = now_ns();
  run_part(0, count);
  const int64_t first_part = now_ns() - begin;
  take_parts();
  wait_for_all();
  known.note_shared(first_part, now_ns() - begin, count);
}

bool Team::is_better_alone(Body body, const RegionTimes::Entry& known) const {
  if (known.alone_ns == 0 || known.has_barrier || !is_own_code(body)) return false;
  if (known.alone_ns < kTooShortNs) return true;
  if (patience_.is_crowded(now_ns())) return known.alone_ns < kTooShortInCrowdNs;
  return known.alone_ns <= known.shared_ns && known.alone_in_turn < kAloneInTurn;
}

void Team::run_alone(int count, RegionTimes::Entry& known) {
  is_alone_.store(true, std::memory_order_relaxed);
  const int64_t begin = now_ns();
  for (int index = 0; index < count && is_alone_.load(std::memory_order_relaxed); ++index)
    run_part(index, count);
  if (is_alone_.load(std::memory_order_relaxed)) {
    is_alone_.store(false, std::memory_order_relaxed);
    return known.note_alone(now_ns() - begin);
  }
  // A part has met a barrier, and so put the others on offer.
  known.has_barrier = true;
  take_parts();
  wait_for_all();
}

void Team::offer(int next, int count) {
  while (static_cast<int>(helpers_.size()) < count - 1) helpers_.emplace_back([this] { help(); });
  const uint32_t region = region_.load(std::memory_order_relaxed) + 1;
  ticket_.store(ticket_of(region, next, count), std::memory_order_release);
  region_.store(region);
  if (sleepers_.load() == 0) return;
  called_at_.store(now_ns(), std::memory_order_relaxed);
  wake_helpers(count - next);
}

/// Two at most, who wake others: whoever starts a region has better things to do.
void Team::wake_helpers(int count) { wake(region_, std::min(count, 2)); }

void Team::wait_for_all() {
  const auto is_done = [&] { return unfinished_.load(std::memory_order_acquire) == 0; };
  if (is_done() || patience_.wait(is_done)) return;
  owner_sleeps_ = true;
  while (const auto parts = unfinished_.load()) sleep_while(unfinished_, parts);
  owner_sleeps_ = false;
}

void Team::help() {
  uint32_t seen = region_.load() - 1;  // the region that it was made for
  for (;;) {
    const auto has_next = [&] { return region_.load(std::memory_order_acquire) != seen; };
    const bool slept = !patience_.wait(has_next);
    if (slept) {
      sleepers_.fetch_add(1);
      while (!has_next()) sleep_while(region_, seen);
      sleepers_.fetch_sub(1);
      const auto now = now_ns();
      const auto late = now - called_at_.load(std::memory_order_relaxed);
      if (late > Patience::kGapNs && late < 100 * Patience::kGapNs) patience_.found_crowded(now);
    }
    if (is_over_) return;
    seen = region_.load(std::memory_order_acquire);
    if (slept) {
      const auto ticket = ticket_.load(std::memory_order_acquire);
      const int waiting = count_of(ticket) - next_of(ticket) - 1;
      if (waiting > 0 && sleepers_.load() > 0) wake_helpers(waiting);
    }
    take_parts();
  }
}

void Team::take_parts() {
  uint64_t ticket = ticket_.load(std::memory_order_acquire);
  while (next_of(ticket) < count_of(ticket)) {
    const uint64_t taken = ticket + (uint64_t{1} << kIndexShift);
    if (!ticket_.compare_exchange_weak(ticket, taken, std::memory_order_acq_rel,
                                       std::memory_order_acquire))
      continue;
    run_part(next_of(ticket), count_of(ticket));
    ticket = ticket_.load(std::memory_order_acquire);
  }
}

void Team::run_part(int index, int count) {
  auto& part = current_part();
  part.team = this;
  part.index = index;
  part.count = count;
  part.is_active = true;
  part.works_met = 0;
  body_(data_);
  part.team = nullptr;
  part.index = 0;
  part.count = 1;
  part.is_active = false;
  if (unfinished_.fetch_sub(1) == 1 && owner_sleeps_.load()) wake(unfinished_, 1);
}

void Team::barrier(const Part& part) {
  if (is_alone_.load(std::memory_order_relaxed)) {
    is_alone_.store(false, std::memory_order_relaxed);
    offer(part.index + 1, part.count);
  }
  const uint32_t passed = barriers_.load();
  if (arrived_.fetch_add(1) + 1 == static_cast<uint32_t>(part.count)) {
    arrived_.store(0);
    barriers_.fetch_add(1);
    if (sleepers_at_barrier_.load() > 0) wake(barriers_, INT_MAX);
    return;
  }
  const auto is_passed = [&] { return barriers_.load(std::memory_order_acquire) != passed; };
  if (patience_.wait(is_passed)) return;
  sleepers_at_barrier_.fetch_add(1);
  while (!is_passed()) sleep_while(barriers_, passed);
  sleepers_at_barrier_.fetch_sub(1);
}

}  // namespace x_transformers::threads
