#include "x_transformers/models/decoding_step.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

namespace x_transformers {

DecodingStep::DecodingStep(const c10::Device& device, LayersCache& cache,
                           DecodingStepOptions options, Run run)
    : device_(device), cache_(cache), options_(std::move(options)), run_(std::move(run)) {
  // More than that is made room for once it comes.
  constexpr int64_t kMaxExpected = 16'384;
  const auto filled = cache_.length + cache_.memory_length;
  fix(filled + std::clamp<int64_t>(options_.expected, 1, kMaxExpected));
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

DecodingStep::Tensors DecodingStep::step() {
  auto next = run_(token_);
  cache_.advance();
  if (options_.gives_token) token_[0].copy_(next.at(0).view_as(token_[0]));
  return next;
}

void DecodingStep::take(const Tensors& token) {
  if (token_.empty()) {
    for (const auto& each : token) token_.push_back(each.clone());
    return;
  }
  const bool has_it = given_.defined() && token.at(0).is_alias_of(given_);
  for (size_t i = has_it ? 1 : 0; i < token.size(); ++i)
    token_[i].copy_(token[i], /*non_blocking=*/true);
}

DecodingStep::Tensors DecodingStep::operator()(const Tensors& token) {
  const auto length = cache_.length;
  if (length + cache_.memory_length >= cache_.capacity) fix(2 * cache_.capacity);
  take(token);
  Tensors next;
  if (steps_++ < kEagerSteps) {
    next = step();
  } else {
    if (!graph_)
      graph_ =
          capture_graph(device_, [this] { next_ = step(); },
                        {.warm_up = 0, .frees_memory = false, .generator = options_.generator});
    graph_->replay();
    for (const auto& each : next_) next.push_back(each.clone());
  }
  if (options_.gives_token) given_ = next[0];
  // A replay does not do what the host did when it was captured.
  cache_.length = length + 1;
  return next;
}

}  // namespace x_transformers
