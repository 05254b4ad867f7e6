// bench: how long a training step and a generated token take, for one model file.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <fmt/format.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <memory>

#include "apps/x-transformers/commands.h"
#include "apps/x-transformers/device.h"
#include "x_transformers/core/json.h"
#include "x_transformers/ops/linear.h"
#include "x_transformers/optim/parameters.h"
#include "x_transformers/train/graph_step.h"
#include "x_transformers/train/language_model.h"
#include "x_transformers/train/trainer_evaluation.h"
#include "x_transformers/train/trainer_step.h"

namespace x_transformers {

namespace {

struct BenchCommand {
  std::string work, config, device = "cpu", precision = "fp32", matmul_precision = "highest";
  int64_t batch = 16, seq = 128, prompt = 128, tokens = 128, steps = 0, threads = 0;
  bool no_cuda_graph = false;
};

using Clock = std::chrono::steady_clock;

void synchronize(const at::Device& device) {
  if (device.is_cuda()) at::detail::getCUDAHooks().deviceSynchronize(device.index());
}

/// Most memory in use so far: on the device, or of the process.
int64_t peak_memory(const at::Device& device) {
  if (!device.is_cpu()) return memory_in_use(device).value_or(0);
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss * 1024;
}

/// Median milliseconds of `step` after `warm_up` runs of it.
template <class Step>
double median_ms(Step step, int64_t warm_up, int64_t count, const at::Device& device) {
  std::vector<double> times;
  for (int64_t i = 0; i < warm_up + count; ++i) {
    synchronize(device);
    const auto start = Clock::now();
    step();
    synchronize(device);
    if (i >= warm_up)
      times.push_back(std::chrono::duration<double, std::milli>(Clock::now() - start).count());
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

AutoregressiveWrapper make_model(const BenchCommand& command, const at::Device& device) {
  auto config = read_json_file(command.config);
  if (config.contains("model")) config = Json(config["model"]);
  at::manual_seed(0);
  auto model = build_language_model(config, command.config);
  model->to(device);
  return model;
}

Json bench_train(const BenchCommand& command, const at::Device& device) {
  auto model = make_model(command, device);
  const auto parameters = trainable_parameters(*model);
  std::vector<at::Tensor> masters;
  if (command.precision == "bf16") masters = cast_parameters(parameters, at::kBFloat16);
  AdamW optimizer(parameters, AdamWOptions{}, masters);
  TrainStep step([&](const at::Tensor& tokens) { return model->forward(tokens).loss; }, optimizer,
                 nullptr, 0.0);
  const auto tokens =
      at::randint(model->options().net.num_tokens, {command.batch, command.seq}, at::kLong)
          .to(device);
  const auto steps = command.steps > 0 ? command.steps : 7;
  // As `train` runs its steps.
  const bool is_graph = !command.no_cuda_graph && graph_step_refusal(*model, device).empty();
  GraphStep captured(step, device);
  const auto run = [&] { is_graph ? captured({tokens}) : step({tokens}); };
  const double ms = median_ms(run, is_graph ? GraphStep::kEagerSteps + 1 : 2, steps, device);
  return {{"ms_per_step", ms},
          {"cuda_graph", is_graph},
          {"tokens_per_s", static_cast<double>(command.batch * command.seq) / ms * 1e3}};
}

Json bench_generate(const BenchCommand& command, const at::Device& device) {
  auto model = make_model(command, device);
  if (command.precision == "bf16") cast_parameters(trainable_parameters(*model), at::kBFloat16);
  GenerationInputs inputs;
  inputs.prompts =
      at::randint(model->options().net.num_tokens, {command.batch, command.prompt}, at::kLong)
          .to(device);
  if (command.no_cuda_graph) inputs.fixed_caches = false;
  GenerateOptions options;
  options.seq_len = command.tokens;
  options.temperature = 0;
  const auto steps = command.steps > 0 ? command.steps : 3;
  const double ms = median_ms([&] { model->generate(inputs, options); }, 1, steps, device);
  return {{"ms_per_token", ms / static_cast<double>(command.tokens)},
          {"tokens_per_s", static_cast<double>(command.batch * command.tokens) / ms * 1e3}};
}

}  // namespace

void add_bench(CLI::App& app) {
  auto* command =
      app.add_subcommand("bench", "measure a model: a training step, or cached greedy generation");
  const auto options = std::make_shared<BenchCommand>();
  command->add_option("work", options->work, "train or generate")
      ->required()
      ->check(CLI::IsMember({"train", "generate"}));
  command->add_option("--config", options->config, "model file or run file")->required();
  command->add_option("--batch", options->batch, "sequences")->check(CLI::PositiveNumber);
  command->add_option("--seq", options->seq, "tokens of a training sequence")
      ->check(CLI::PositiveNumber);
  command->add_option("--prompt", options->prompt, "tokens of a prompt")
      ->check(CLI::PositiveNumber);
  command->add_option("--tokens", options->tokens, "tokens to generate")
      ->check(CLI::PositiveNumber);
  command
      ->add_option("--steps", options->steps,
                   "steps, or generations, to take the median of; default: 7 or 3")
      ->check(CLI::PositiveNumber);
  command->add_option("--threads", options->threads, "CPU threads; 0: as LibTorch chooses")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--device", options->device, "cpu or cuda");
  command->add_option("--precision", options->precision, "fp32 or bf16")
      ->check(CLI::IsMember({"fp32", "bf16"}));
  command
      ->add_option("--matmul-precision", options->matmul_precision,
                   "of fp32 products: highest, high or medium")
      ->check(CLI::IsMember({"highest", "high", "medium"}));
  command->add_flag("--no-cuda-graph", options->no_cuda_graph, "run every step eagerly");
  command->callback([options] {
    if (options->threads > 0) at::set_num_threads(static_cast<int>(options->threads));
    const auto device = open_device(options->device);
    set_matmul_precision(options->matmul_precision);
    auto result =
        options->work == "train" ? bench_train(*options, device) : bench_generate(*options, device);
    result["memory_bytes"] = peak_memory(device);
    result["work"] = options->work;
    result["batch"] = options->batch;
    fmt::print("{}\n", result.dump());
  });
}

}  // namespace x_transformers
