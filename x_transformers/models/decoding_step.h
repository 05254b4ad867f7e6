// Decoding token by token on static caches, as a CUDA graph.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>

#include "x_transformers/core/cache.h"
#include "x_transformers/core/graph.h"

namespace x_transformers {

/// One step: [b, 1] tokens in, [b, vocab] logits out. Fixes the caches, runs the first steps
/// eagerly, then captures one and replays it. Full caches are doubled, and the step is captured
/// anew.
class DecodingStep {
 public:
  /// Steps before the capture.
  static constexpr int64_t kEagerSteps = 3;
  using Run = std::function<at::Tensor(const at::Tensor& tokens)>;

  /// `run` appends to `cache`, which has been filled with a prompt and must outlive this;
  /// `expected` more tokens get room at once.
  DecodingStep(const c10::Device& device, LayersCache& cache, int64_t expected, Run run);
  /// Lets the caches grow again.
  ~DecodingStep();
  DecodingStep(const DecodingStep&) = delete;
  DecodingStep& operator=(const DecodingStep&) = delete;

  at::Tensor operator()(const at::Tensor& tokens);

 private:
  void fix(int64_t tokens);
  at::Tensor step();

  c10::Device device_;
  LayersCache& cache_;
  Run run_;
  int64_t steps_ = 0;
  at::Tensor tokens_, logits_;  // what the graph reads and writes
  std::unique_ptr<DeviceGraph> graph_ = nullptr;
};

}  // namespace x_transformers
