#include "x_transformers/core/cpu_limits.h"

#include <ATen/Parallel.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace x_transformers {
namespace {

namespace fs = std::filesystem;

int count_affine() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return 1;
  return std::max(1, CPU_COUNT(&set));
}

std::optional<double> smaller(std::optional<double> a, std::optional<double> b) {
  if (!a || !b) return a ? a : b;
  return std::min(*a, *b);
}

/// "QUOTA PERIOD" in microseconds, or "max PERIOD".
std::optional<double> quota_of_v2(const fs::path& file) {
  std::ifstream in(file);
  std::string quota;
  double period = 0;
  if (!(in >> quota >> period) || quota == "max" || period <= 0) return std::nullopt;
  const double time = std::strtod(quota.c_str(), nullptr);
  return time > 0 ? std::optional<double>(time / period) : std::nullopt;
}

std::optional<double> quota_of_v1(const fs::path& folder) {
  double quota = 0, period = 0;
  std::ifstream(folder / "cpu.cfs_quota_us") >> quota;
  std::ifstream(folder / "cpu.cfs_period_us") >> period;
  return quota > 0 && period > 0 ? std::optional<double>(quota / period) : std::nullopt;
}

/// The least quota of the group at `path` below `mount` and of those that it is in.
template <class Quota>
std::optional<double> least_quota(const fs::path& mount, const std::string& path,
                                  const Quota& quota) {
  std::optional<double> least;
  fs::path group = fs::path(path).relative_path();
  for (;;) {
    least = smaller(least, quota(mount / group));
    if (group.empty() || group == group.parent_path()) return least;
    group = group.parent_path();
  }
}

std::optional<double> read_quota(const std::string& root) {
  const fs::path groups = root + "/sys/fs/cgroup";
  std::ifstream in(root + "/proc/self/cgroup");
  std::optional<double> least;
  for (std::string line; std::getline(in, line);) {  // number:controllers:path
    const auto first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const auto controllers = line.substr(first + 1, second - first - 1);
    const auto path = line.substr(second + 1);
    if (controllers.empty()) {
      least = smaller(least, least_quota(groups, path, [](const fs::path& group) {
                        return quota_of_v2(group / "cpu.max");
                      }));
    } else if (("," + controllers + ",").find(",cpu,") != std::string::npos) {
      for (const char* mount : {"cpu", "cpu,cpuacct"})
        least = smaller(least, least_quota(groups / mount, path, quota_of_v1));
    }
  }
  return least;
}

const CpuLimits& own_limits() {
  static const CpuLimits limits = cpu_limits();
  return limits;
}

}  // namespace

CpuLimits cpu_limits(const std::string& root) {
  CpuLimits limits;
  limits.online = static_cast<int>(std::max<long>(1, sysconf(_SC_NPROCESSORS_ONLN)));
  limits.affine = count_affine();
  limits.quota = read_quota(root);
  double load = 0;
  if (std::ifstream(root + "/proc/loadavg") >> load) limits.load = load;
  return limits;
}

int usable_cpus(const CpuLimits& limits) {
  const double quota = limits.quota ? std::ceil(*limits.quota) : limits.affine;
  return std::clamp(static_cast<int>(std::min<double>(quota, limits.affine)), 1, limits.affine);
}

bool exceed_quota(const CpuLimits& limits) {
  return limits.quota && *limits.quota < usable_cpus(limits);
}

int share_of_cpus(const CpuLimits& limits, int64_t processes) {
  // A launcher that binds processes to processors has shared these out.
  const bool is_bound = limits.affine < limits.online;
  const auto shared =
      (is_bound ? limits.online : usable_cpus(limits)) / std::max<int64_t>(processes, 1);
  return static_cast<int>(std::clamp<int64_t>(shared, 1, usable_cpus(limits)));
}

int share_of_cpus(int64_t processes) { return share_of_cpus(own_limits(), processes); }

void use_threads(std::optional<int64_t> most) {
  at::set_num_threads(
      static_cast<int>(std::min<int64_t>(most.value_or(at::get_num_threads()), usable_cpus())));
}

int usable_cpus() { return usable_cpus(own_limits()); }
int affine_cpus() { return own_limits().affine; }
bool exceed_quota() { return exceed_quota(own_limits()); }

}  // namespace x_transformers
