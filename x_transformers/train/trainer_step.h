// One update of the weights, and what it leaves behind.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "x_transformers/core/world_place.h"
#include "x_transformers/data/batch.h"
#include "x_transformers/optim/ema.h"
#include "x_transformers/optim/gradients.h"
#include "x_transformers/optim/optimizer.h"
#include "x_transformers/train/gradient_sum.h"
#include "x_transformers/train/parameter_shards.h"
#include "x_transformers/train/qk_clip.h"
#include "x_transformers/train/watch.h"

namespace x_transformers {

/// The mean loss over the targets of `batch` that count (nats a token, of a language model): a
/// scalar tensor with gradients. The batch is on the device of the model.
using LossFunction = std::function<at::Tensor(const Batch& batch)>;

/// What a step leaves: fp32 scalars on the device. Whoever needs them later copies them, since a
/// captured step writes the next ones to the same place.
struct StepResult {
  at::Tensor loss;       ///< mean over the targets of all micro-batches, of all ranks
  at::Tensor grad_norm;  ///< before clipping
  at::Tensor skipped;   ///< 1 where loss or gradient was not finite and nothing was updated, else 0
  at::Tensor targets;   ///< of all ranks, int64; undefined where there is one
  at::Tensor own_loss;  ///< of this rank, 0 without targets; undefined where there is one
  at::Tensor watched;   ///< what Watch has measured, fp32 [numbers]; undefined: nothing
};

/// What the micro-batches of a step weigh, read from the device, so that each replay of a captured
/// step has its own.
struct StepWeights {
  at::Tensor shares;   ///< fp32 [micro-batches]; undefined: all have the same
  at::Tensor targets;  ///< of them all, an int64 scalar; undefined where there is one rank
};

/// One update from the micro-batches of `step` (counted from 1), which are on the device. The
/// learning rate is in the optimizer already. Must not wait for the device.
using StepFunction =
    std::function<StepResult(const std::vector<Batch>& micro_batches, int64_t step)>;

/// The share of each micro-batch in the update of all: its targets over those of all. Empty where
/// all have the same number, and so the same share.
std::vector<double> batch_shares(const std::vector<Batch>& micro_batches);
/// Targets of them all.
int64_t count_targets(const std::vector<Batch>& micro_batches);

/// Forward and backward of each micro-batch, the sum over ranks, clipping, the optimizer, QK-clip
/// and the moving average. Reads nothing from the device, so that a call can be captured in
/// a CUDA graph. Micro-batches weigh by their targets, and so do ranks, so that the update is that
/// of one batch of them all. With other ranks a parameter that no pass reached has a gradient of 0,
/// since others may have reached it, and a rank without targets has a gradient of 0.
class TrainStep {
 public:
  /// `ema`, `qk_clip` and `watch` may be null; `grad_clip` 0 does not clip; without `sum` there is
  /// one rank. With `start_sum` gradients are summed up while the last backward pass goes on.
  /// `optimizer`, `ema`, `qk_clip` and `watch` must outlive this.
  TrainStep(LossFunction loss, Optimizer& optimizer, Ema* ema, double grad_clip,
            SumOverRanks sum = {}, QkClip* qk_clip = nullptr, Watch* watch = nullptr,
            StartSumOverRanks start_sum = {});
  TrainStep(const TrainStep&) = delete;
  TrainStep& operator=(const TrainStep&) = delete;

  StepResult operator()(const std::vector<Batch>& micro_batches);
  /// The same with weights from the device. Each micro-batch has a target.
  StepResult with_weights(const std::vector<Batch>& micro_batches, const StepWeights& weights);
  /// Called in each step when all but the update of the weights is done.
  void set_before_update(std::function<void()> before_update) {
    before_update_ = std::move(before_update);
  }
  /// The model is shared out over the ranks: `shards`, which must outlive this, are of the
  /// optimizer's parameters.
  void set_shards(ParameterShards* shards) { shards_ = shards; }
  const Optimizer& optimizer() const { return optimizer_; }
  bool has_other_ranks() const { return sum_ != nullptr; }

 private:
  /// Gives the part of the step's loss that the loss of micro-batch `index` makes; undefined: it
  /// makes none.
  using ShareOf = std::function<at::Tensor(const at::Tensor& loss, int64_t index)>;
  /// The targets of a step, int64 scalars on the device, and the share of this rank in them, an
  /// fp32 one; undefined where there is one rank.
  struct Targets {
    at::Tensor own, all, share;
  };

  void begin();
  /// Waits for all ranks to say how many targets they have.
  Targets count_all(const at::Tensor& own) const;
  /// The mean loss of this rank. Gradients are its part of those of all ranks. Micro-batch `last`
  /// is the last that has a share.
  at::Tensor accumulate(const std::vector<Batch>& micro_batches, size_t last,
                        const Targets& targets, const ShareOf& share_of);
  /// The loss of a micro-batch, seen by the Watch and with parameters brought by the shards, where
  /// there are some.
  at::Tensor loss_of(const Batch& batch);
  /// The gradients of the last micro-batch that has a share are summed up while they are made.
  void backward(const at::Tensor& loss, bool is_last);
  StepResult update(at::Tensor loss, const Targets& targets);
  at::TensorOptions device_options(at::ScalarType dtype) const;

  LossFunction loss_;
  Optimizer& optimizer_;
  Ema* ema_;
  double grad_clip_;
  SumOverRanks sum_;
  QkClip* qk_clip_;
  Watch* watch_;
  ParameterShards* shards_ = nullptr;  ///< null: each rank has the whole model
  GradientCollector collector_;
  std::function<void()> before_update_ = [] {};
  std::unique_ptr<GradientSum> gradient_sum_;  ///< null where there is one rank
};

/// `value`, but a NaN without a sign, which would be printed.
double unsigned_nan(double value);

/// What a step left, read from the device.
struct StepRecord {
  int64_t step = 0;
  double loss = 0;
  double grad_norm = 0;
  bool skipped = false;
  int64_t targets = 0;  ///< of all ranks
  double own_loss = 0;  ///< of this one
};

/// Keeps the results of steps on the device until they are asked for, so that only then the host
/// waits.
class StepHistory {
 public:
  /// Holds up to `capacity` results.
  StepHistory(int64_t capacity, const at::Device& device);
  /// Copies `result`; needs room. `targets` of this rank count where the result has none of all.
  void record(int64_t step, const StepResult& result, int64_t targets);
  /// Reads all results from the device, in their order, and forgets them.
  std::vector<StepRecord> drain();

 private:
  at::Tensor results_;           // [capacity, 4]
  at::Tensor targets_of_ranks_;  // int64 [capacity]; undefined where there is one rank
  std::vector<int64_t> steps_, targets_;
};

}  // namespace x_transformers
