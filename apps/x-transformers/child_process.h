// This program as a child of itself: one run of several, with a memory and a fate of its own.
#pragma once

#include <sys/types.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "x_transformers/core/notice.h"

namespace x_transformers {

struct ChildExit {
  int status = 0;            ///< of its exit
  int signal = 0;            ///< that ended it; 0: none
  bool was_stopped = false;  ///< whether this program was asked to stop meanwhile, and told it so
  std::string output;        ///< what it wrote to stdout
  std::optional<Notice> notice = std::nullopt;  ///< what it has said of its failure
};

/// Why a child failed: its own notice; without one how it has ended, and the last lines that it has
/// written to `log`, as they are.
Notice failure_of(const ChildExit& child, const std::filesystem::path& log);

/// Says what ends this program, in one line on stderr, as `shown` has it, and gives it to the
/// program that has started this one as a child.
void tell_end(const Notice& notice, const Notice& shown);
inline void tell_end(const Notice& notice) { tell_end(notice, notice); }

/// Runs this program with `arguments`, its stderr appended to `log`, and waits. A signal that asks
/// this program to stop (StopSignals) is passed on once; where this program dies, the child is
/// killed. `gpus` is CUDA_VISIBLE_DEVICES of the child; empty: as here. Throws RunError where it
/// cannot be started.
ChildExit run_as_child(const std::vector<std::string>& arguments, const std::filesystem::path& log,
                       const std::string& gpus = {});

/// A child that has started and made a device ready, and waits for what to run: what a start takes
/// has passed when its turn comes. Like any other it does one run. For the thread that made it.
class WaitingChild {
 public:
  explicit WaitingChild(const std::string& device);
  /// Kills a child that waits still.
  ~WaitingChild();
  WaitingChild(const WaitingChild&) = delete;
  WaitingChild& operator=(const WaitingChild&) = delete;

  /// As run_as_child; nothing: it has ended before it was needed. Once.
  std::optional<ChildExit> run(const std::vector<std::string>& arguments,
                               const std::filesystem::path& log);

 private:
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> output_, notice_;
  int requests_ = -1;  ///< the child's stdin
  pid_t child_ = -1;   ///< -1: there is none
};

/// What the child of a WaitingChild does: makes the device ready, takes its arguments and its log
/// from stdin and runs the program on them. Returns the exit status.
int run_when_asked(const std::string& device);

}  // namespace x_transformers
