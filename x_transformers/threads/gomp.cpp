// The part of OpenMP's run-time library (GCC's libgomp) that LibTorch and our kernels use, on teams
// whose parts are taken. A program that links this has it in place of libgomp's: the linker finds
// the program's own names first. Names and meaning are those of GCC's ABI.
#include <algorithm>
#include <cstdlib>
#include <mutex>

#include "x_transformers/core/cpu_limits.h"
#include "x_transformers/threads/team.h"

namespace x_transformers::threads {
namespace {

int default_threads() {
  static const int threads = [] {
    const char* text = std::getenv("OMP_NUM_THREADS");
    const long asked = text ? std::strtol(text, nullptr, 10) : 0;
    if (asked > 0) return static_cast<int>(std::min<long>(asked, Team::kMaxParts));
    return usable_cpus();
  }();
  return threads;
}

/// What omp_set_num_threads was told in this thread.
thread_local int asked_threads = 0;

int most_threads() { return asked_threads > 0 ? asked_threads : default_threads(); }

void run_region(Team::Body body, void* data, unsigned asked) {
  auto& part = current_part();
  const int wanted = asked > 0 ? static_cast<int>(asked) : most_threads();
  const int count = part.is_active ? 1 : std::clamp(wanted, 1, Team::kMaxParts);
  if (count > 1) return own_team().run(body, data, count);
  const Part outer = part;
  part.team = nullptr;
  part.index = 0;
  part.count = 1;
  body(data);
  part = outer;
}

void barrier() {
  const auto& part = current_part();
  if (part.team) part.team->barrier(part);
}

/// The next shared work that this part meets: made by the first part that comes to it.
template <class Make>
SharedWork& meet(Part& part, std::list<SharedWork>& works, const Make& make) {
  const uint32_t number = part.works_met++;
  for (auto& work : works)
    if (work.number == number) return work;
  SharedWork work = make();
  work.number = number;
  work.parts_left = part.count;
  work.turn = work.next;
  works.push_back(work);
  return works.back();
}

/// A lock where there is somebody to keep out.
std::unique_lock<std::mutex> lock(const Part& part) {
  return part.team ? std::unique_lock(part.team->mutex()) : std::unique_lock<std::mutex>();
}

std::list<SharedWork>& works_of(Part& part) {
  return part.team ? part.team->works() : part.own_works;
}

/// The work is let go of when the last part leaves it.
void leave(Part& part, SharedWork& work) {
  if (--work.parts_left > 0) return;
  works_of(part).remove_if([&](const SharedWork& other) { return &other == &work; });
}

bool take_chunk(Part& part, long* begin, long* end) {
  auto& work = *part.work;
  const bool is_left = work.step > 0 ? work.next < work.end : work.next > work.end;
  if (!is_left) return false;
  const int64_t last = work.next + work.chunk * work.step;
  part.chunk_begin = work.next;
  part.chunk_end = work.step > 0 ? std::min(last, work.end) : std::max(last, work.end);
  work.next = part.chunk_end;
  *begin = part.chunk_begin;
  *end = part.chunk_end;
  return true;
}

bool start_loop(long begin, long end, long step, long chunk, long* first, long* last) {
  auto& part = current_part();
  const auto held = lock(part);
  part.work = &meet(part, works_of(part), [&] {
    SharedWork work;
    work.next = begin;
    work.end = end;
    work.step = step;
    work.chunk = std::max<long>(chunk, 1);
    return work;
  });
  return take_chunk(part, first, last);
}

bool next_chunk(long* first, long* last) {
  auto& part = current_part();
  const auto held = lock(part);
  return take_chunk(part, first, last);
}

void end_work() {
  auto& part = current_part();
  const auto held = lock(part);
  leave(part, *part.work);
  part.work = nullptr;
}

/// Until the ordered code of every earlier chunk has run.
void wait_for_turn(Part& part, std::unique_lock<std::mutex>& held) {
  if (part.team) part.team->turns().wait(held, [&] { return part.work->turn == part.chunk_begin; });
}

void pass_turn(Part& part) {
  part.work->turn = part.chunk_end;
  if (part.team) part.team->turns().notify_all();
}

std::mutex& unnamed_critical() {
  static std::mutex mutex;
  return mutex;
}

std::mutex& atomic_mutex() {
  static std::mutex mutex;
  return mutex;
}

/// The mutex of a named critical section, which is made at its first use.
std::mutex& named_critical(void** name) {
  static std::mutex making;
  const std::lock_guard held(making);
  if (!*name) *name = new std::mutex;  // for as long as the program runs
  return *static_cast<std::mutex*>(*name);
}

}  // namespace
}  // namespace x_transformers::threads

// NOLINTBEGIN(readability-identifier-naming): names of GCC's ABI
using namespace x_transformers::threads;  // NOLINT(google-build-using-namespace)

extern "C" {

void GOMP_parallel(void (*body)(void*), void* data, unsigned threads, unsigned /*flags*/) {
  run_region(body, data, threads);
}
void GOMP_barrier() { barrier(); }

void GOMP_atomic_start() { atomic_mutex().lock(); }
void GOMP_atomic_end() { atomic_mutex().unlock(); }
void GOMP_critical_start() { unnamed_critical().lock(); }
void GOMP_critical_end() { unnamed_critical().unlock(); }
void GOMP_critical_name_start(void** name) { named_critical(name).lock(); }
void GOMP_critical_name_end(void** name) { named_critical(name).unlock(); }

bool GOMP_loop_dynamic_start(long begin, long end, long step, long chunk, long* first, long* last) {
  return start_loop(begin, end, step, chunk, first, last);
}
bool GOMP_loop_dynamic_next(long* first, long* last) { return next_chunk(first, last); }
void GOMP_loop_end_nowait() { end_work(); }
void GOMP_loop_end() {
  end_work();
  barrier();
}

bool GOMP_loop_ordered_dynamic_start(long begin, long end, long step, long chunk, long* first,
                                     long* last) {
  return start_loop(begin, end, step, chunk, first, last);
}
bool GOMP_loop_ordered_dynamic_next(long* first, long* last) {
  auto& part = current_part();
  auto held = lock(part);
  wait_for_turn(part, held);
  pass_turn(part);
  return take_chunk(part, first, last);
}
void GOMP_ordered_start() {
  auto& part = current_part();
  auto held = lock(part);
  wait_for_turn(part, held);
}
void GOMP_ordered_end() {}

unsigned GOMP_sections_start(unsigned count) {
  long first = 0, last = 0;
  return start_loop(1, static_cast<long>(count) + 1, 1, 1, &first, &last)
             ? static_cast<unsigned>(first)
             : 0;
}
unsigned GOMP_sections_next() {
  long first = 0, last = 0;
  return next_chunk(&first, &last) ? static_cast<unsigned>(first) : 0;
}
void GOMP_sections_end_nowait() { end_work(); }
void GOMP_sections_end() {
  end_work();
  barrier();
}

bool GOMP_single_start() {
  auto& part = current_part();
  const auto held = lock(part);
  bool is_first = false;
  auto& work = meet(part, works_of(part), [&] {
    is_first = true;
    return SharedWork{};
  });
  leave(part, work);
  return is_first;
}

int omp_get_max_threads() { return most_threads(); }
int omp_get_num_procs() { return x_transformers::affine_cpus(); }
int omp_get_num_threads() { return current_part().count; }
int omp_get_thread_num() { return current_part().index; }
int omp_in_parallel() { return current_part().is_active ? 1 : 0; }
void omp_set_num_threads(int threads) { asked_threads = std::clamp(threads, 1, Team::kMaxParts); }

}  // extern "C"
// NOLINTEND(readability-identifier-naming)
