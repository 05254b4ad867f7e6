// Starts this program several times on this host, as processes that train one model together.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace x_transformers {

struct LaunchOptions {
  int64_t processes = 1;
  std::optional<int64_t> gpus = {};  ///< as many processes, each with a GPU
  int64_t restarts = 0;              ///< times that they are started again where one has failed
};

/// The arguments that this program was called with, but for its name and for the options in
/// `without`, which each take a value.
std::vector<std::string> own_arguments(const std::vector<std::string>& without);

/// Runs this program with `arguments` in several processes and waits for all. They know of each
/// other by the environment (distributed/rank_environment.h). A signal that asks to stop is passed
/// on once; where one process ends badly, all end, and where this process dies, too. Returns the
/// exit status of the first to end badly, or 0. Throws RunError where a process cannot be started.
int launch(const LaunchOptions& options, std::vector<std::string> arguments);

}  // namespace x_transformers
