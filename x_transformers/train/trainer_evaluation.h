// Looking at a model in training: validation and samples, which leave no trace in it.
#pragma once

#include <torch/nn/module.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "x_transformers/core/generator_state.h"
#include "x_transformers/optim/ema.h"
#include "x_transformers/optim/optimizer.h"
#include "x_transformers/train/parameter_shards.h"
#include "x_transformers/train/trainer_step.h"

namespace x_transformers {

/// Batch `index`, from 0, on the CPU.
using BatchFunction = std::function<Batch(int64_t index)>;

/// While it lives the model is in eval mode, records no gradients and has the averaged weights
/// where there are some; then everything is as it was, the random states too.
class EvaluationScope {
 public:
  EvaluationScope(torch::nn::Module& model, const Optimizer& optimizer, const Ema* ema);
  ~EvaluationScope();
  EvaluationScope(const EvaluationScope&) = delete;
  EvaluationScope& operator=(const EvaluationScope&) = delete;

 private:
  torch::nn::Module& model_;
  bool was_training_;
  RandomStateGuard random_;
  at::NoGradGuard no_grad_;
  std::unique_ptr<ScopedWeights> averaged_;
};

/// `batch` on `device`, without waiting for the copy.
Batch to_device(Batch batch, const at::Device& device);

/// Bytes that the process holds on `device`: the peak of allocated memory on an accelerator, what
/// is resident on the CPU.
std::optional<int64_t> memory_in_use(const at::Device& device);

/// The mean loss over the targets of `count` batches, which the ranks share; without `sum` there is
/// one. Asks `stop` for each batch, on every rank, and gives nothing where it says yes. `shards`
/// are those of the model; null: each rank has all of it.
std::optional<double> mean_loss(const LossFunction& loss, const BatchFunction& batch, int64_t count,
                                const at::Device& device, const std::function<bool()>& stop,
                                const WorldPlace& place = {}, const SumOverRanks& sum = {},
                                ParameterShards* shards = nullptr);

}  // namespace x_transformers
