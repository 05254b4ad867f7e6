// A whole training step as one CUDA graph.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "x_transformers/core/graph.h"
#include "x_transformers/core/world_place.h"
#include "x_transformers/interchange/model.h"
#include "x_transformers/train/trainer_step.h"

namespace x_transformers {

/// Why training steps of `model` on `device` run one operation after the other and not as a CUDA
/// graph; empty: they can be captured.
Notice graph_step_unsupported(Model& model, const at::Device& device);

/// What begins messages about a step that cannot be captured.
inline constexpr const char* kTrainingStep = "training step:";

/// Runs a step eagerly a few times, so that libraries set themselves up, then captures it and
/// replays it. Every call is one update of the weights, and the updates are those of the eager step
/// up to rounding. Batches whose names, shapes or types are not those that were captured run
/// eagerly, and so do micro-batches of which one has no targets while others have some. Where there
/// are other ranks, all capture, replay or run eagerly together, which NCCL demands of its sums.
class GraphStep {
 public:
  /// Calls before the capture.
  static constexpr int64_t kEagerSteps = 3;

  /// `eager` must outlive this. On CUDA graph_step_unsupported must be empty (core/reason.h). Where
  /// there are other ranks, `most` is how they agree on what to do.
  GraphStep(TrainStep& eager, const c10::Device& device, MostOverRanks most = {});
  /// The next call overwrites the result. Throws RunError where the step cannot be captured.
  StepResult operator()(const std::vector<Batch>& micro_batches);

 private:
  /// What to do with a step. Where ranks need different things, all do the one that stands last
  /// here.
  enum class Way : int64_t { replay, capture, capture_with_shares, run_eagerly };

  Way way_of(const std::vector<Batch>& micro_batches, const std::vector<double>& shares) const;
  bool fits(const std::vector<Batch>& micro_batches) const;
  void capture(const std::vector<Batch>& micro_batches, bool with_shares);
  void fill_inputs(const std::vector<Batch>& micro_batches, const std::vector<double>& shares);
  /// Whether the step is one that the graph computes rightly: it has a mean of each micro-batch.
  bool can_replay(const std::vector<Batch>& micro_batches, const std::vector<double>& shares) const;

  TrainStep& eager_;
  c10::Device device_;
  MostOverRanks most_;
  int64_t calls_ = 0;
  std::vector<Batch> inputs_;  // what the graph reads
  StepWeights weights_;        // too; shares once the numbers of targets have differed
  StepResult result_;          // what it writes
  std::unique_ptr<DeviceGraph> graph_ = nullptr;
};

}  // namespace x_transformers
