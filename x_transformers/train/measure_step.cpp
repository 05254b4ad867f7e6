#include "x_transformers/train/measure_step.h"

#include <ATen/ATen.h>
#include <ATen/detail/CUDAHooksInterface.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <vector>

#include "x_transformers/core/reason.h"
#include "x_transformers/optim/adamw.h"
#include "x_transformers/optim/parameters.h"
#include "x_transformers/train/graph_step.h"

namespace x_transformers {
namespace {

using Clock = std::chrono::steady_clock;

void synchronize(const at::Device& device) {
  if (device.is_cuda()) at::detail::getCUDAHooks().deviceSynchronize(device.index());
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace

StepTimes time_work(const std::function<void()>& work, int64_t warm_up, int64_t count,
                    const at::Device& device) {
  std::vector<double> elapsed, processor;
  for (int64_t i = 0; i < warm_up + count; ++i) {
    synchronize(device);
    const auto start = Clock::now();
    const auto processor_start = std::clock();
    work();
    synchronize(device);
    if (i < warm_up) continue;
    elapsed.push_back(std::chrono::duration<double, std::milli>(Clock::now() - start).count());
    processor.push_back(1e3 * static_cast<double>(std::clock() - processor_start) / CLOCKS_PER_SEC);
  }
  return {median(elapsed), median(processor)};
}

StepTimes measure_step(Model& model, const LossFunction& loss, const Batch& batch,
                       const at::Device& device, const StepMeasurement& how) {
  model.module().train();
  const auto parameters = trainable_parameters(model.module());
  std::vector<at::Tensor> masters;
  if (how.bf16) masters = cast_parameters(model.module(), parameters, at::kBFloat16);
  AdamW optimizer(parameters, AdamWOptions{}, masters);
  TrainStep step(loss, optimizer, nullptr, 0.0);
  const auto reason =
      how.cuda_graph ? graph_step_unsupported(model, device) : Notice{{}, "turned off"};
  GraphStep captured(step, device);
  const bool is_graph = is_empty(reason);
  const auto work = [&] { is_graph ? captured({batch}) : step({batch}); };
  const auto warm_up = is_graph ? std::max(how.warm_up, GraphStep::kEagerSteps + 1) : how.warm_up;
  auto times = time_work(work, warm_up, how.steps, device);
  if (!is_graph) times.graph_unsupported = reason;
  return times;
}

SampleCall sample_batch(Model& model, int64_t sequences, std::optional<int64_t> tokens,
                        const at::Device& device) {
  auto call = model.sample_call(tokens);
  for (auto& [name, tensor] : call.inputs) {
    std::vector<int64_t> times(static_cast<size_t>(tensor.dim()), 1);
    if (!times.empty() && tensor.size(0) == 1) times[0] = sequences;
    tensor = tensor.repeat(times);
  }
  if (const auto task = model.token_task()) {
    if (task->is_whole && task->longest) {
      call.tokens = *task->longest;
    } else if (tokens) {
      call.tokens = *tokens;
    }
    call.inputs[model.predicted_tensor()] =
        at::randint(task->num_tokens, {sequences, call.tokens}, at::kLong);
  }
  for (auto& [name, tensor] : call.inputs) tensor = tensor.to(device);
  return call;
}

}  // namespace x_transformers
