// A whole training step as one CUDA graph.
#pragma once

#include <memory>
#include <vector>

#include "x_transformers/core/graph.h"
#include "x_transformers/train/trainer_step.h"

namespace x_transformers {

/// Runs a step eagerly a few times, so that libraries set themselves up, then captures it and
/// replays it. Every call is one update of the weights, and the updates are those of the eager step
/// up to rounding. Batches of another shape than those captured run eagerly.
class GraphStep {
 public:
  /// Calls before the capture.
  static constexpr int64_t kEagerSteps = 3;

  /// `eager` must outlive this. Needs graph_refusal() to be empty on CUDA.
  GraphStep(TrainStep& eager, const c10::Device& device);
  /// The result lies where the next call writes its own. Throws RunError where the step cannot be
  /// captured.
  StepResult operator()(const std::vector<at::Tensor>& micro_batches);

 private:
  bool fits(const std::vector<at::Tensor>& micro_batches) const;
  void capture(const std::vector<at::Tensor>& micro_batches);

  TrainStep& eager_;
  c10::Device device_;
  int64_t calls_ = 0;
  std::vector<at::Tensor> tokens_;  // what the graph reads
  StepResult result_;               // what it writes
  std::unique_ptr<DeviceGraph> graph_ = nullptr;
};

}  // namespace x_transformers
