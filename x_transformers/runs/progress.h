// What a run shows while it goes on: a bar on a terminal, plain lines elsewhere.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace x_transformers {

/// Where a run stands. Values that are not known yet are left out of what is shown.
struct Progress {
  int64_t step = 0;  // steps done
  int64_t total_steps = 0;
  std::optional<double> loss;
  std::optional<double> grad_norm;
  std::optional<double> learning_rate;
  std::optional<double> targets_per_second;
  std::string target_unit = "tokens";
  std::optional<int64_t> memory_bytes;
  std::optional<double> seconds_left;
};

/// 45s, 3m12s, 2h05m, 3d04h.
std::string format_duration(double seconds);
/// One line for a terminal of `width` columns: the bar gives way to the values, and values that do
/// not fit are left out from the end.
std::string format_progress_bar(const Progress& progress, int64_t width, bool color);
/// One line for a log.
std::string format_progress_line(const Progress& progress);

/// Memory of this process that is in use now, in bytes; absent where the system does not tell.
std::optional<int64_t> resident_memory_bytes();

struct ProgressOptions {
  /// bar, lines, none, or auto: a bar on a terminal, else lines
  std::string style = "auto";
  /// minimum seconds between two plain lines
  double line_seconds = 10;
};

/// Shows the progress of a run on a file descriptor.
class ProgressReporter {
 public:
  /// Throws InputError for an unknown style. `descriptor` is not closed.
  explicit ProgressReporter(const ProgressOptions& options = {}, int descriptor = 2);
  /// Ends the bar's line.
  ~ProgressReporter();
  ProgressReporter(const ProgressReporter&) = delete;
  ProgressReporter& operator=(const ProgressReporter&) = delete;

  /// Redraws the bar (at most ten times a second) or writes a line (see line_seconds); the first
  /// and the last step are always shown. Fills in `seconds_left` from the pace since the first
  /// update.
  void update(Progress progress);

  /// Writes a whole line, above the bar where there is one.
  void message(const std::string& text);

  /// Ends the bar's line, leaving the last state in sight.
  void finish();

 private:
  using Clock = std::chrono::steady_clock;
  enum class Style { kBar, kLines, kNone };

  void write(const std::string& text);
  void draw_bar();

  Style style_;
  int descriptor_;
  double line_seconds_;
  bool color_ = false;
  bool bar_shown_ = false;
  Progress shown_;
  std::optional<int64_t> first_step_;
  Clock::time_point first_time_;
  Clock::time_point last_time_;
};

}  // namespace x_transformers
