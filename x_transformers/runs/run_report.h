// What a run tells: metrics.jsonl, TensorBoard, the progress bar and the loss curve.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "x_transformers/core/notice.h"
#include "x_transformers/runs/metrics.h"
#include "x_transformers/runs/progress.h"
#include "x_transformers/runs/tensorboard.h"
#include "x_transformers/runs/watched_number.h"

namespace x_transformers {

/// What a run tells, and how.
struct ReportOptions {
  int64_t total_steps = 0;
  std::string target_unit = "tokens";  ///< what is counted: tokens, examples
  std::string loss_unit;               ///< PlotOptions::loss_unit
  std::string progress = "auto";       ///< ProgressOptions::style
  bool tensorboard = true;
  bool plot = true;
};

/// The steps since the last log line.
struct TrainingLog {
  int64_t step = 0;
  double loss = 0;       ///< mean over the targets
  double grad_norm = 0;  ///< mean, before clipping
  double learning_rate = 0;
  double targets_per_second = 0;
  int64_t targets = 0;        ///< of the run so far
  double seconds = 0;         ///< in training steps so far
  int64_t skipped_steps = 0;  ///< of the run so far
  std::optional<int64_t> memory_bytes;
  std::vector<WatchedNumber> watched = {};  ///< of the last step, with train.watch
};

/// One validation.
struct EvaluationLog {
  int64_t step = 0;
  double val_loss = 0;  ///< mean over the targets
  std::optional<double> bits_per_byte;
  bool is_best = false;
};

class RunReport {
 public:
  /// Writes into `directory`: metrics.jsonl, tensorboard/ and loss.png. With `resumed_step` goes on
  /// after that step.
  RunReport(std::filesystem::path directory, const ReportOptions& options,
            std::optional<int64_t> resumed_step);

  void log(const TrainingLog& log);
  void evaluation(const EvaluationLog& evaluation);
  void sample(int64_t step, const std::string& text);
  void message(const std::string& text) { progress_.message(text); }
  /// A function that draws the loss curve, on any thread, and returns why it could not, if so.
  /// Empty where no curve is asked for. tell_of_curve tells the user of the first failure, which
  /// does not end the run.
  std::function<std::optional<Notice>()> curve() const;
  void tell_of_curve(const std::optional<Notice>& failure);
  /// Ends the progress bar.
  void finish() { progress_.finish(); }

 private:
  std::filesystem::path directory_;
  ReportOptions options_;
  MetricsWriter metrics_;
  std::optional<EventWriter> events_;
  ProgressReporter progress_;
};

}  // namespace x_transformers
