// Decoding token by token on static caches, as a CUDA graph.
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "x_transformers/core/graph.h"
#include "x_transformers/layers/layers_cache.h"

namespace x_transformers {

struct DecodingStepOptions {
  /// Tokens that the caches get room for at once.
  int64_t expected = 1;
  /// Whether a step chooses the next token, [b], and gives it as its first tensor. The step then
  /// writes it to the input of the following step as well, so that a caller who passes that token
  /// on causes no copy.
  bool gives_token = false;
  /// What the step draws from beside the default generator.
  std::optional<at::Generator> generator = std::nullopt;
};

/// One step, from tensors of the last token, [b, 1, ...], to those of the one that follows, such as
/// logits [b, vocab]. Fixes the caches, runs the first step eagerly, then captures one and
/// replays it. Full caches are doubled, and the step is captured anew.
class DecodingStep {
 public:
  /// Steps before the capture, in which libraries make what they need.
  static constexpr int64_t kEagerSteps = 1;
  using Tensors = std::vector<at::Tensor>;
  using Run = std::function<Tensors(const Tensors& token)>;

  /// `run` appends to `cache`, which has been filled with a prompt and must outlive this.
  DecodingStep(const c10::Device& device, LayersCache& cache, DecodingStepOptions options, Run run);
  /// Lets the caches grow again.
  ~DecodingStep();
  DecodingStep(const DecodingStep&) = delete;
  DecodingStep& operator=(const DecodingStep&) = delete;

  Tensors operator()(const Tensors& token);

 private:
  void fix(int64_t tokens);
  void take(const Tensors& token);
  Tensors step();

  c10::Device device_;
  LayersCache& cache_;
  DecodingStepOptions options_;
  Run run_;
  int64_t steps_ = 0;
  Tensors token_, next_;  // what the graph reads and writes
  at::Tensor given_;      // the token that the last step gave, which token_ holds already
  std::unique_ptr<DeviceGraph> graph_ = nullptr;
};

}  // namespace x_transformers
