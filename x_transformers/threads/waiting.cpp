#include "x_transformers/threads/waiting.h"

#include <linux/futex.h>
#include <strings.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <ctime>

#include "x_transformers/core/cpu_limits.h"

namespace x_transformers::threads {

int64_t now_ns() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * int64_t{1'000'000'000} + time.tv_nsec;
}

bool is_passive() {
  const char* const policy = std::getenv("OMP_WAIT_POLICY");
  return exceed_quota() || (policy != nullptr && strcasecmp(policy, "passive") == 0);
}

void sleep_while(const std::atomic<uint32_t>& word, uint32_t value) {
  syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, value, nullptr, nullptr, 0);
}

void wake(std::atomic<uint32_t>& word, int count) {
  syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, count, nullptr, nullptr, 0);
}

}  // namespace x_transformers::threads
