#include "x_transformers/train/graph_step.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/core/reason.h"
#include "x_transformers/core/spelling.h"

namespace x_transformers {
namespace {

bool are_alike(const TensorMap& captured, const TensorMap& given) {
  return std::equal(captured.begin(), captured.end(), given.begin(), given.end(),
                    [](const auto& one, const auto& other) {
                      return one.first == other.first &&
                             one.second.sizes() == other.second.sizes() &&
                             one.second.scalar_type() == other.second.scalar_type();
                    });
}

}  // namespace

Notice graph_step_unsupported(Model& model, const at::Device& device) {
  if (!device.is_cuda()) return {{}, text("the device is {}", device.str())};
  const auto reason = graph_unsupported();
  if (!is_empty(reason)) return reason;
  auto captured = model.capture_unsupported();
  return {{}, std::move(captured)};
}

GraphStep::GraphStep(TrainStep& eager, const c10::Device& device, MostOverRanks most)
    : eager_(eager), device_(device), most_(std::move(most)) {
  TORCH_CHECK(most_ || device.is_cpu() || !eager.has_other_ranks(),
              "[GraphStep] ranks on CUDA need a way to agree");
}

bool GraphStep::fits(const std::vector<Batch>& micro_batches) const {
  return std::equal(inputs_.begin(), inputs_.end(), micro_batches.begin(), micro_batches.end(),
                    [](const Batch& captured, const Batch& given) {
                      return are_alike(captured.tensors, given.tensors);
                    });
}

void GraphStep::capture(const std::vector<Batch>& micro_batches, bool with_shares) {
  graph_.reset();  // its memory is freed before the next is captured
  inputs_.clear();
  for (const Batch& batch : micro_batches) {
    auto& input = inputs_.emplace_back();
    for (const auto& [name, tensor] : batch.tensors) input.tensors[name] = at::empty_like(tensor);
  }
  const at::TensorOptions options(device_);
  if (with_shares)
    weights_.shares = at::empty({static_cast<int64_t>(inputs_.size())}, options.dtype(at::kFloat));
  if (eager_.has_other_ranks()) weights_.targets = at::ones({}, options.dtype(at::kLong));
  const auto moments = eager_.optimizer().count_moments();
  const auto work = [this] { result_ = eager_.with_weights(inputs_, weights_); };
  spelled(with_hint(below(kTrainingStep),
                    text("{} false runs it eagerly", option(OptionPath("train") / "cuda_graph"))),
          [&] {
            // No gradient lives on from before: the graph allocates its own, at places of its own.
            graph_ = capture_graph(device_, work, {.warm_up = 0});
            // Moments made within the graph would be made anew by each replay.
            if (eager_.optimizer().count_moments() != moments)
              throw RunError("a parameter had its first gradient while the step was captured");
          });
}

void GraphStep::fill_inputs(const std::vector<Batch>& micro_batches,
                            const std::vector<double>& shares) {
  for (size_t i = 0; i < inputs_.size(); ++i) {
    for (auto& [name, tensor] : inputs_[i].tensors)
      tensor.copy_(micro_batches[i].tensors.at(name), /*non_blocking=*/true);
  }
  if (weights_.targets.defined()) weights_.targets.fill_(count_targets(micro_batches));
  if (!weights_.shares.defined()) return;
  if (shares.empty()) {
    weights_.shares.fill_(1.0 / static_cast<double>(inputs_.size()));
  } else {
    weights_.shares.copy_(at::tensor(shares, at::kFloat), /*non_blocking=*/true);
  }
}

bool GraphStep::can_replay(const std::vector<Batch>& micro_batches,
                           const std::vector<double>& shares) const {
  // A mean over no targets is NaN, and so is its product with a share of 0.
  const bool has_empty = std::find(shares.begin(), shares.end(), 0.0) != shares.end();
  const bool is_empty = eager_.has_other_ranks() && count_targets(micro_batches) == 0;
  return !has_empty && !is_empty;
}

GraphStep::Way GraphStep::way_of(const std::vector<Batch>& micro_batches,
                                 const std::vector<double>& shares) const {
  if (!can_replay(micro_batches, shares)) return Way::run_eagerly;
  // A batch of another shape runs eagerly, and does not replace the captured one.
  if (graph_ && !fits(micro_batches)) return Way::run_eagerly;
  if (!shares.empty() && !weights_.shares.defined()) return Way::capture_with_shares;
  return graph_ ? Way::replay : Way::capture;
}

StepResult GraphStep::operator()(const std::vector<Batch>& micro_batches) {
  const auto shares = batch_shares(micro_batches);
  if (calls_++ < kEagerSteps) return eager_(micro_batches);
  auto way = way_of(micro_batches, shares);
  if (most_) way = static_cast<Way>(most_(static_cast<int64_t>(way)));
  if (way == Way::run_eagerly) return eager_(micro_batches);
  if (way != Way::replay) capture(micro_batches, way == Way::capture_with_shares);
  fill_inputs(micro_batches, shares);
  graph_->replay();
  return result_;
}

}  // namespace x_transformers
