// One update of the weights, and what it leaves behind.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "x_transformers/optim/adamw.h"
#include "x_transformers/optim/ema.h"
#include "x_transformers/optim/gradients.h"

namespace x_transformers {

/// The mean loss of `tokens` (int64 `[batch, seq + 1]`, on the device of the model), nats a token:
/// a scalar tensor with gradients.
using LossFunction = std::function<at::Tensor(const at::Tensor& tokens)>;

/// What a step leaves: fp32 scalars on the device. Whoever needs them later copies them, since a
/// captured step writes the next ones to the same place.
struct StepResult {
  at::Tensor loss;       ///< mean over the micro-batches
  at::Tensor grad_norm;  ///< before clipping
  at::Tensor skipped;  ///< 1 where loss or gradient was not finite and nothing was updated, else 0
};

/// One update from the micro-batches of `step` (counted from 1), which are on the device. The
/// learning rate is in the optimizer already. Must not wait for the device.
using StepFunction =
    std::function<StepResult(const std::vector<at::Tensor>& micro_batches, int64_t step)>;

/// Forward and backward of each micro-batch, clipping, AdamW and the moving average. Reads nothing
/// from the device, so that a call can be captured in a CUDA graph.
class TrainStep {
 public:
  /// `ema` may be null; `grad_clip` 0 does not clip. `optimizer` and `ema` must outlive this.
  TrainStep(LossFunction loss, AdamW& optimizer, Ema* ema, double grad_clip);

  StepResult operator()(const std::vector<at::Tensor>& micro_batches);
  const AdamW& optimizer() const { return optimizer_; }

 private:
  at::Tensor accumulate(const std::vector<at::Tensor>& micro_batches);

  LossFunction loss_;
  AdamW& optimizer_;
  Ema* ema_;
  double grad_clip_;
  GradientCollector collector_;
};

/// `value`, but a NaN without a sign, which would be printed.
double unsigned_nan(double value);

/// What a step left, read from the device.
struct StepRecord {
  int64_t step = 0;
  double loss = 0;
  double grad_norm = 0;
  bool skipped = false;
};

/// Keeps the results of steps on the device until they are asked for, so that only then the host
/// waits.
class StepHistory {
 public:
  /// Holds up to `capacity` results.
  StepHistory(int64_t capacity, const at::Device& device);
  /// Copies `result`; needs room.
  void record(int64_t step, const StepResult& result);
  /// Reads all results from the device, in their order, and forgets them.
  std::vector<StepRecord> drain();

 private:
  at::Tensor results_;  // [capacity, 3]
  std::vector<int64_t> steps_;
};

}  // namespace x_transformers
