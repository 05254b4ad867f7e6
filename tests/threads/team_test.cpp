// Regions whose parts are taken: each part runs once, whoever runs it, and waits where it says so.
#include "x_transformers/threads/team.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <thread>
#include <vector>

#include "x_transformers/core/cpu_limits.h"

// As GCC makes calls of them.
extern "C" {
void GOMP_parallel(void (*)(void*), void*, unsigned, unsigned);
void GOMP_barrier();
void GOMP_critical_start();
void GOMP_critical_end();
void GOMP_critical_name_start(void**);
void GOMP_critical_name_end(void**);
bool GOMP_loop_dynamic_start(long, long, long, long, long*, long*);
bool GOMP_loop_dynamic_next(long*, long*);
void GOMP_loop_end();
void GOMP_loop_end_nowait();
bool GOMP_loop_ordered_dynamic_start(long, long, long, long, long*, long*);
bool GOMP_loop_ordered_dynamic_next(long*, long*);
void GOMP_ordered_start();
void GOMP_ordered_end();
unsigned GOMP_sections_start(unsigned);
unsigned GOMP_sections_next();
void GOMP_sections_end_nowait();
bool GOMP_single_start();
int omp_get_max_threads();
int omp_get_num_threads();
int omp_get_thread_num();
int omp_in_parallel();
void omp_set_num_threads(int);
}

namespace x_transformers::threads {
namespace {

using Body = std::function<void()>;

void parallel(unsigned parts, const Body& body) {
  GOMP_parallel([](void* data) { (*static_cast<const Body*>(data))(); }, const_cast<Body*>(&body),
                parts, 0);
}

TEST(Team, EveryPartRunsOnce) {
  for (const unsigned parts : {1u, 2u, 3u, 8u, 40u}) {
    for (int region = 0; region < 300; ++region) {
      std::vector<std::atomic<int>> runs(parts);
      parallel(parts, [&] {
        EXPECT_EQ(omp_get_num_threads(), static_cast<int>(parts));
        ++runs[static_cast<size_t>(omp_get_thread_num())];
      });
      for (const auto& count : runs) ASSERT_EQ(count, 1);
    }
  }
  EXPECT_EQ(omp_get_num_threads(), 1);
  EXPECT_EQ(omp_get_thread_num(), 0);
}

TEST(Team, WhoWaitsForALatePartDoesItHimself) {
  // Two helpers sleep in the first parts that they take; the others are run all the same.
  std::atomic<int> done{0};
  parallel(8, [&] {
    if (omp_get_thread_num() == 1) std::this_thread::sleep_for(std::chrono::milliseconds(30));
    ++done;
  });
  EXPECT_EQ(done, 8);
}

TEST(Team, PartsThatWaitForEachOtherRunAtTheSameTime) {
  constexpr int kParts = 6, kRounds = 200;
  for (int region = 0; region < 20; ++region) {
    std::vector<int> round(kParts, 0);
    std::atomic<bool> is_in_step{true};
    parallel(kParts, [&] {
      const auto own = static_cast<size_t>(omp_get_thread_num());
      for (int step = 1; step <= kRounds; ++step) {
        round[own] = step;
        GOMP_barrier();
        for (const int other : round)
          if (other != step) is_in_step = false;
        GOMP_barrier();
      }
    });
    EXPECT_TRUE(is_in_step);
  }
}

TEST(Team, ShortRegionsAreRunByTheThreadThatStartsThem) {
  using Threads = std::vector<std::thread::id>;
  // A body of its own, which no other test has had wait.
  const auto body = [](void* data) {
    (*static_cast<Threads*>(data))[static_cast<size_t>(omp_get_thread_num())] =
        std::this_thread::get_id();
  };
  int alone = 0;
  for (int region = 0; region < 400; ++region) {
    Threads threads(2);
    GOMP_parallel(body, &threads, 2, 0);
    if (region >= 200 && threads[0] == threads[1]) ++alone;
  }
  EXPECT_GT(alone, 150);
}

TEST(Team, ShortRegionsWhosePartsWaitForEachOtherHaveTheirThreads) {
  for (int region = 0; region < 2000; ++region) {
    std::atomic<int> arrived{0};
    std::atomic<int> seen{0};
    parallel(3, [&] {
      // Many regions without a wait make this one look short and simple.
      if (region % 50 != 49) return;
      ++arrived;
      GOMP_barrier();
      seen += arrived.load();
      GOMP_barrier();
    });
    if (region % 50 == 49) {
      ASSERT_EQ(seen, 9);
    }
  }
}

TEST(RegionTimes, KnowsABodyByTheOneBeforeAndDoubtsWhatIsMuchLonger) {
  const RegionTimes::Body one = [](void*) {},
                          other = [](void*data) { *static_cast<int*>(data) = 1; };
  RegionTimes times;
  times.next(one).note_alone(100);   // after none
  times.next(one).note_alone(2000);  // after itself
  times.next(other).note_shared(20'000, 50'000, 3);
  EXPECT_EQ(times.next(one).alone_ns, 0);  // after the other
  auto& after_itself = times.next(one);
  EXPECT_EQ(after_itself.alone_ns, 2000);
  EXPECT_EQ(after_itself.alone_in_turn, 1);
  after_itself.note_alone(4'000'000);
  EXPECT_EQ(after_itself.alone_ns, (3 * 2000 + 4 * 2000 + 1000) / 4);
  EXPECT_EQ(after_itself.shared_ns, 0);
  const auto& shared = times.next(other);
  EXPECT_EQ(shared.alone_ns, 60'000);
  EXPECT_EQ(shared.shared_ns, 50'000);
  EXPECT_EQ(shared.alone_in_turn, 0);
}

TEST(Patience, TakesTheUsersPolicy) {
  ASSERT_EQ(setenv("OMP_WAIT_POLICY", "PASSIVE", 1), 0);
  EXPECT_TRUE(is_passive());
  ASSERT_EQ(setenv("OMP_WAIT_POLICY", "active", 1), 0);
  EXPECT_EQ(is_passive(), exceed_quota());
  ASSERT_EQ(unsetenv("OMP_WAIT_POLICY"), 0);
  EXPECT_EQ(is_passive(), exceed_quota());
}

TEST(Team, ARegionWithinARegionIsOfOnePart) {
  std::atomic<int> inner{0};
  parallel(3, [&] {
    EXPECT_TRUE(omp_in_parallel());
    const int own = omp_get_thread_num();
    parallel(4, [&] {
      EXPECT_EQ(omp_get_num_threads(), 1);
      EXPECT_EQ(omp_get_thread_num(), 0);
      EXPECT_TRUE(omp_in_parallel());
      GOMP_barrier();
      ++inner;
    });
    EXPECT_EQ(omp_get_thread_num(), own);
    EXPECT_EQ(omp_get_num_threads(), 3);
  });
  EXPECT_EQ(inner, 3);
  EXPECT_FALSE(omp_in_parallel());
}

TEST(Team, LoopsGiveEachIterationToOnePart) {
  for (const long step : {1L, 3L, -2L}) {
    const long begin = step > 0 ? -5 : 95, end = step > 0 ? 95 : -5;
    std::vector<std::atomic<int>> runs(100);
    const auto loop = [&] {
      for (int again = 0; again < 5; ++again) {  // those who are ahead begin the next loop
        long first = 0, last = 0;
        if (GOMP_loop_dynamic_start(begin, end, step, 4, &first, &last)) {
          do {
            for (long i = first; step > 0 ? i < last : i > last; i += step)
              ++runs[static_cast<size_t>(step > 0 ? i + 5 : i + 4)];
          } while (GOMP_loop_dynamic_next(&first, &last));
        }
        again % 2 ? GOMP_loop_end() : GOMP_loop_end_nowait();
      }
    };
    parallel(4, loop);
    loop();  // outside of a region: all of it
    for (size_t i = 0; i < runs.size(); ++i) {
      const auto place = static_cast<long>(i) - (step > 0 ? 0 : 99);
      EXPECT_EQ(runs[i], place % step == 0 ? 10 : 0) << step << " " << i;
    }
  }
}

TEST(Team, OrderedCodeRunsInOrder) {
  std::vector<long> order;
  parallel(4, [&] {
    long first = 0, last = 0;
    if (GOMP_loop_ordered_dynamic_start(0, 50, 1, 3, &first, &last)) {
      do {
        for (long i = first; i < last; ++i) {
          GOMP_ordered_start();
          order.push_back(i);
          GOMP_ordered_end();
        }
      } while (GOMP_loop_ordered_dynamic_next(&first, &last));
    }
    GOMP_loop_end();
  });
  ASSERT_EQ(order.size(), 50u);
  for (long i = 0; i < 50; ++i) EXPECT_EQ(order[static_cast<size_t>(i)], i);
}

TEST(Team, SectionsAndSinglesAreTakenOnce) {
  std::vector<std::atomic<int>> sections(6);
  std::atomic<int> singles{0};
  long sum = 0, named = 0;
  void* name = nullptr;
  parallel(5, [&] {
    for (int again = 0; again < 50; ++again) {
      for (auto section = GOMP_sections_start(5); section != 0; section = GOMP_sections_next())
        ++sections[section];
      GOMP_sections_end_nowait();
      if (GOMP_single_start()) ++singles;
      GOMP_critical_start();
      ++sum;
      GOMP_critical_end();
      GOMP_critical_name_start(&name);
      ++named;
      GOMP_critical_name_end(&name);
    }
  });
  EXPECT_EQ(sections[0], 0);
  for (size_t section = 1; section <= 5; ++section) EXPECT_EQ(sections[section], 50);
  EXPECT_EQ(singles, 50);
  EXPECT_EQ(sum, 250);
  EXPECT_EQ(named, 250);
}

TEST(Team, EveryThreadHasItsOwnHelpersAndItsOwnNumberOfThem) {
  std::atomic<int> runs{0};
  std::vector<std::thread> owners;
  for (int owner = 1; owner <= 4; ++owner) {
    owners.emplace_back([&, owner] {
      omp_set_num_threads(owner);
      EXPECT_EQ(omp_get_max_threads(), owner);
      for (int region = 0; region < 50; ++region) {
        parallel(0, [&] {
          EXPECT_EQ(omp_get_num_threads(), owner);
          GOMP_barrier();
          ++runs;
        });
      }
    });
  }
  for (auto& owner : owners) owner.join();
  EXPECT_EQ(runs, 50 * (1 + 2 + 3 + 4));
}

TEST(Team, RegionsAfterAPauseFindTheirHelpersAsleep) {
  for (int region = 0; region < 20; ++region) {
    std::atomic<int> runs{0};
    parallel(5, [&] {
      GOMP_barrier();
      ++runs;
    });
    EXPECT_EQ(runs, 5);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

}  // namespace
}  // namespace x_transformers::threads
