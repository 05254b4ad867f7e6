// metrics.jsonl: one JSON object a line, appended while a run goes on.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "x_transformers/runs/metrics_file.h"

namespace x_transformers {

/// Names of the values that the trainer writes and the plot reads.
namespace metric {
inline constexpr const char* kStep = "step";
inline constexpr const char* kLoss = "loss";         // nats a token, on the training batch
inline constexpr const char* kValLoss = "val_loss";  // nats a token, on the validation windows
inline constexpr const char* kLearningRate = "learning_rate";
inline constexpr const char* kGradNorm = "grad_norm";
}  // namespace metric

/// Appends rows to a file. Each row is written with one call, so a reader never sees half of one,
/// except after a power cut.
class MetricsWriter {
 public:
  /// Starts `path` anew; with `resumed_step` keeps the rows up to that step and drops later ones
  /// (and a last line that was cut off), replacing the file at once. Throws RunError when it cannot
  /// be written, InputError when a line of it is no JSON object.
  explicit MetricsWriter(std::string path, std::optional<int64_t> resumed_step = std::nullopt);

  /// Appends one object. Numbers that are not finite become null. Throws RunError (disk full).
  void write(const nlohmann::ordered_json& row);

 private:
  AppendFile file_;
};

/// The rows of a metrics file. A last line without its line end is left out. Throws InputError when
/// the file is missing or a line is no JSON object.
std::vector<nlohmann::ordered_json> read_metrics(const std::string& path);

}  // namespace x_transformers
