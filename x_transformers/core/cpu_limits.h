// How many processors this process may use.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace x_transformers {

struct CpuLimits {
  int online = 1;               ///< of the machine
  int affine = 1;               ///< that the process may run on
  std::optional<double> quota;  ///< time a second that its control groups allow, in processors
  std::optional<double> load;   ///< runnable threads of the machine, mean of the last minute
};

/// Reads /proc and the control groups (version 1 and 2) below `root`.
CpuLimits cpu_limits(const std::string& root = "");

/// Threads that can run at the same time: the affine processors, or what a lower quota allows,
/// rounded up.
int usable_cpus(const CpuLimits& limits);
/// Of this process, asked for once, as all below without arguments.
int usable_cpus();
int affine_cpus();
/// Whether usable_cpus() threads that never sleep take more time than the quota allows.
bool exceed_quota(const CpuLimits& limits);
bool exceed_quota();

/// What each of several processes of this host may use, at least one: of what it is bound to, or of
/// what they share.
int share_of_cpus(const CpuLimits& limits, int64_t processes);
int share_of_cpus(int64_t processes);

/// Has this thread's work on the CPU run on `most` threads, or as many as LibTorch takes by itself,
/// but on no more than can run at the same time.
void use_threads(std::optional<int64_t> most);

}  // namespace x_transformers
