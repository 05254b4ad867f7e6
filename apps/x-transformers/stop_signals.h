// Stopping a run by SIGINT, SIGTERM and SIGHUP.
#pragma once

#include <csignal>

namespace x_transformers {

/// While it lives, the first SIGINT, SIGTERM or SIGHUP only sets a flag, so that a run can save and
/// end by itself; the second kills the process as usual. A SIGHUP that is ignored stays so. One at
/// a time in a process.
class StopSignals {
 public:
  /// Clears the flag and takes the signals.
  StopSignals();
  /// Gives the signals back to whoever had them.
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  /// The signal that came, or 0.
  static int received();

 private:
  struct sigaction interrupt_before_ {};
  struct sigaction terminate_before_ {};
  struct sigaction hang_up_before_ {};
};

}  // namespace x_transformers
