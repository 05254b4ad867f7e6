// Watches over the ranks of a run: who has died, who is stopped or hangs, and who has failed why.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "x_transformers/core/error.h"
#include "x_transformers/distributed/meeting.h"

namespace x_transformers {

/// How it is known that a rank fails: it says so, its process has ended without a word, or it does
/// not answer or go on.
enum class RankEnd { reported, ended, lost };

/// After a connection is lost: for its reason to be told.
inline constexpr double kReasonSeconds = 5;

/// Why a run of several ranks ends.
struct RankFailure {
  int64_t rank = 0;  ///< -1: no single one
  std::string text;  ///< what is wrong there, in one line
  RankEnd end = RankEnd::lost;
  bool is_input_error = false;  ///< the user gave it
};

/// What a rank throws that must end because of another. The notice names that rank and its host.
class OtherRankFailed : public RunError {
 public:
  OtherRankFailed(const Meeting& meeting, RankFailure failure);
  const RankFailure& failure() const { return failure_; }

 private:
  RankFailure failure_;
};

struct MonitorOptions {
  /// A rank that says nothing for so long is lost; one that does nothing for so long while others
  /// wait for it hangs.
  double timeout_seconds = 30;
  /// Called, on a thread of the monitor's own, where this process has not ended some time after
  /// the run has failed: to end it.
  std::function<void(const OtherRankFailed&)> on_stuck = {};
};

/// Every rank tells rank 0 once a second that it lives, and rank 0 tells each. What one knows of a
/// failure all know. A thread of its own does this, whatever the process is at.
class RankMonitor {
 public:
  RankMonitor(Meeting meeting, MonitorOptions options);
  /// Ends without a word to the others where `leave` was not called.
  ~RankMonitor();
  RankMonitor(const RankMonitor&) = delete;
  RankMonitor& operator=(const RankMonitor&) = delete;

  const Meeting& meeting() const;
  /// Throws OtherRankFailed where the run has failed.
  void check() const;
  bool has_failed() const;
  /// Waits for up to `seconds` for a failure, and throws it.
  void wait_for_failure(double seconds) const;

  /// Whether this process waits for other ranks.
  void set_waiting(bool is_waiting);

  /// Tells all others that this rank ends, and why. Returns whether nobody else shows the reason:
  /// rank 0 does where it is there.
  bool report(const Notice& notice, bool is_input_error);
  /// Tells all others that this rank is done.
  void leave();

 private:
  class Thread;
  std::unique_ptr<Thread> thread_;
};

}  // namespace x_transformers
