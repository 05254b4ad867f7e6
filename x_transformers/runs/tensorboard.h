// TensorBoard event files, written without TensorFlow.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "x_transformers/runs/metrics_file.h"

namespace x_transformers {

/// Writes scalars to a new event file in a folder that `tensorboard --logdir` shows.
class EventWriter {
 public:
  /// Makes `folder` and in it events.out.tfevents.<seconds>.<host>.<pid>.<count>. With
  /// `resumed_step` TensorBoard forgets what earlier files of the folder say about later steps.
  /// Throws RunError.
  explicit EventWriter(const std::string& folder,
                       std::optional<int64_t> resumed_step = std::nullopt);

  /// Adds one point to the curve `tag`. Written at once. Throws RunError (disk full).
  void add_scalar(std::string_view tag, double value, int64_t step);

  const std::string& path() const { return file_.path(); }

 private:
  void write_event(const std::string& event);

  AppendFile file_;
};

}  // namespace x_transformers
