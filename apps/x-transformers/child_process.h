// This program as a child of itself: one run of several, with a memory and a fate of its own.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace x_transformers {

struct ChildExit {
  int status = 0;            ///< of its exit
  int signal = 0;            ///< that ended it; 0: none
  bool was_stopped = false;  ///< whether this program was asked to stop meanwhile, and told it so
  std::string output;        ///< what it wrote to stdout
};

/// Why a child failed: the signal that ended it, or the last line that it has written to `log`,
/// without the program's name.
std::string failure_of(const ChildExit& child, const std::filesystem::path& log);

/// Runs this program with `arguments`, its stderr appended to `log`, and waits. A signal that asks
/// this program to stop (StopSignals) is passed on once; where this program dies, the child is
/// killed. Throws RunError where it cannot be started.
ChildExit run_as_child(const std::vector<std::string>& arguments, const std::filesystem::path& log);

}  // namespace x_transformers
