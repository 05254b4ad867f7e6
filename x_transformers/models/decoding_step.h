// Decoding token by token on static caches, as a CUDA graph.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <vector>

#include "x_transformers/core/cache.h"
#include "x_transformers/core/graph.h"

namespace x_transformers {

/// One step: in go tensors of the last token, [b, 1, ...], out come those of the one that follows,
/// such as logits [b, vocab]. Fixes the caches, runs the first steps
/// eagerly, then captures one and replays it. Full caches are doubled, and the step is captured
/// anew.
class DecodingStep {
 public:
  /// Steps before the capture.
  static constexpr int64_t kEagerSteps = 3;
  using Tensors = std::vector<at::Tensor>;
  using Run = std::function<Tensors(const Tensors& token)>;

  /// `run` appends to `cache`, which has been filled with a prompt and must outlive this;
  /// `expected` more tokens get room at once.
  DecodingStep(const c10::Device& device, LayersCache& cache, int64_t expected, Run run);
  /// Lets the caches grow again.
  ~DecodingStep();
  DecodingStep(const DecodingStep&) = delete;
  DecodingStep& operator=(const DecodingStep&) = delete;

  Tensors operator()(const Tensors& token);

 private:
  void fix(int64_t tokens);
  Tensors step();

  c10::Device device_;
  LayersCache& cache_;
  Run run_;
  int64_t steps_ = 0;
  Tensors token_, next_;  // what the graph reads and writes
  std::unique_ptr<DeviceGraph> graph_ = nullptr;
};

}  // namespace x_transformers
