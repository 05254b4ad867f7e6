// What a run's folder says of how the run went.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace x_transformers {

/// A point of a curve: step, value.
using StepPoint = std::pair<double, double>;

struct RunNumbers {
  std::string target_unit = "targets";  ///< what is counted: tokens, examples
  std::vector<StepPoint> loss;          ///< of training, as logged
  std::vector<StepPoint> val_loss;
  std::vector<StepPoint> seconds;  ///< of training, without validation and start-up
  std::vector<StepPoint> targets;  ///< trained on so far, tokens or examples
  double last_val_loss = 0, best_val_loss = 0;
  std::optional<double> bits_per_byte;       ///< of the last validation
  std::optional<double> targets_per_second;  ///< median of the log lines
  std::optional<double> total_seconds;
  std::optional<double> memory_bytes;  ///< most that a log line says
};

/// The curves of the run in `directory`, from its metrics.jsonl. Throws InputError where it has
/// none.
RunNumbers read_run_log(const std::filesystem::path& directory);
/// The same of a run with validation. Throws InputError of one without.
RunNumbers read_run_numbers(const std::filesystem::path& directory);

/// Seconds a step, from log lines of at least two steps: the median, so that what the first steps
/// cost once (memory, graphs) is left out. Absent where there are too few.
std::optional<double> seconds_a_step(const std::filesystem::path& directory);

/// The mean over runs (at least one) of a curve that has points at the same steps in each.
std::vector<StepPoint> mean_curve(const std::vector<RunNumbers>& runs,
                                  std::vector<StepPoint> RunNumbers::*curve);

/// What a curve has at `step`, between its points by a straight line; the first or last value
/// outside. Absent of an empty curve.
std::optional<double> value_at(const std::vector<StepPoint>& curve, double step);

/// The first step at which a curve of losses is at most `loss`, between its points by a straight
/// line. Absent where it never is.
std::optional<double> step_of_loss(const std::vector<StepPoint>& curve, double loss);

}  // namespace x_transformers
