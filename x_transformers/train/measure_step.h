// How long a training step of a model takes.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <functional>
#include <string>

#include "x_transformers/interchange/model.h"
#include "x_transformers/train/trainer_step.h"

namespace x_transformers {

/// How a step is measured.
struct StepMeasurement {
  int64_t warm_up = 2;  ///< steps before those that count; the first ones set libraries up
  int64_t steps = 7;    ///< their median counts
  bool bf16 = false;    ///< parameters in bf16, with fp32 master weights
  bool cuda_graph = true;
};

/// Medians in milliseconds: elapsed, and of the processor over all threads, which hardly changes
/// where others use the machine too.
struct StepTimes {
  double elapsed = 0, processor = 0;
  std::optional<Notice> graph_unsupported = std::nullopt;  ///< why the step is no CUDA graph
};

/// Times `work`, which ends when the device has done it.
StepTimes time_work(const std::function<void()>& work, int64_t warm_up, int64_t count,
                    const c10::Device& device);

/// Times updates (forward, backward, AdamW) of `model`, which is on `device`, from one batch, as a
/// run makes them. The weights change.
StepTimes measure_step(Model& model, const LossFunction& loss, const Batch& batch,
                       const c10::Device& device, const StepMeasurement& how = {});

/// A batch of `sequences` of the model's sample call with `tokens` in each, on `device`; what the
/// model learns from is random where it is tokens.
SampleCall sample_batch(Model& model, int64_t sequences, std::optional<int64_t> tokens,
                        const c10::Device& device);

}  // namespace x_transformers
