#include "x_transformers/train/graph_step.h"

#include <ATen/ATen.h>

#include "x_transformers/core/error.h"

namespace x_transformers {

GraphStep::GraphStep(TrainStep& eager, const c10::Device& device)
    : eager_(eager), device_(device) {}

bool GraphStep::fits(const std::vector<at::Tensor>& micro_batches) const {
  if (micro_batches.size() != tokens_.size()) return false;
  for (size_t i = 0; i < tokens_.size(); ++i) {
    if (micro_batches[i].sizes() != tokens_[i].sizes()) return false;
  }
  return true;
}

void GraphStep::capture(const std::vector<at::Tensor>& micro_batches) {
  for (const at::Tensor& batch : micro_batches) tokens_.push_back(at::empty_like(batch));
  const auto moments = eager_.optimizer().count_moments();
  try {
    // No gradient lives on from before: the graph allocates its own, at places of its own.
    graph_ = capture_graph(
        device_, [this] { result_ = eager_(tokens_); }, /*warm_up=*/0);
  } catch (const RunError& error) {
    throw RunError(std::string("training step: ") + error.what() +
                   "; run with --no-cuda-graph (train.cuda_graph false)");
  }
  // Moments made within the graph would be made anew by each replay.
  if (eager_.optimizer().count_moments() != moments) {
    throw RunError(
        "training step: a parameter had its first gradient while the step was captured; run with "
        "--no-cuda-graph (train.cuda_graph false)");
  }
}

StepResult GraphStep::operator()(const std::vector<at::Tensor>& micro_batches) {
  if (calls_++ < kEagerSteps) return eager_(micro_batches);
  if (!graph_) capture(micro_batches);
  if (!fits(micro_batches)) return eager_(micro_batches);
  for (size_t i = 0; i < tokens_.size(); ++i)
    tokens_[i].copy_(micro_batches[i], /*non_blocking=*/true);
  graph_->replay();
  return result_;
}

}  // namespace x_transformers
