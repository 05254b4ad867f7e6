#include "x_transformers/models/decoding_step.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

namespace x_transformers {

DecodingStep::DecodingStep(const c10::Device& device, LayersCache& cache, int64_t expected, Run run)
    : device_(device), cache_(cache), run_(std::move(run)) {
  // More than that is made room for once it comes.
  constexpr int64_t kMostExpected = 16'384;
  const auto filled = cache_.length + cache_.memory_length;
  fix(filled + std::clamp<int64_t>(expected, 1, kMostExpected));
}

DecodingStep::~DecodingStep() {
  graph_.reset();
  cache_.release();
}

void DecodingStep::fix(int64_t tokens) {
  // Attention kernels want rows that begin at round addresses.
  constexpr int64_t kMultiple = 64;
  graph_.reset();
  steps_ = 0;
  cache_.fix((tokens + kMultiple - 1) / kMultiple * kMultiple, device_);
}

at::Tensor DecodingStep::step() {
  const auto logits = run_(tokens_);
  cache_.advance();
  return logits;
}

at::Tensor DecodingStep::operator()(const at::Tensor& tokens) {
  const auto length = cache_.length;
  if (length + cache_.memory_length >= cache_.capacity) fix(2 * cache_.capacity);
  if (!tokens_.defined()) tokens_ = at::empty_like(tokens);
  tokens_.copy_(tokens, /*non_blocking=*/true);
  at::Tensor logits;
  if (steps_++ < kEagerSteps) {
    logits = step();
  } else {
    if (!graph_)
      graph_ = capture_graph(
          device_, [this] { logits_ = step(); }, /*warm_up=*/0);
    graph_->replay();
    logits = logits_.clone();
  }
  // A replay does not do what the host did when it was captured.
  cache_.length = length + 1;
  return logits;
}

}  // namespace x_transformers
