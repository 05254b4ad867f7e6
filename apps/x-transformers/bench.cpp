// bench: how long a training step and a generated token take, for one model file. A training step
// of a language model needs nothing else; with named tensors, any model has one.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "apps/x-transformers/arguments.h"
#include "apps/x-transformers/bench_options.h"
#include "apps/x-transformers/call.h"
#include "apps/x-transformers/commands.h"
#include "apps/x-transformers/device.h"
#include "apps/x-transformers/quantize.h"
#include "x_transformers/compare/variants.h"
#include "x_transformers/core/evaluation.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/json_options.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/generation/generate.h"
#include "x_transformers/generation/token_writer.h"
#include "x_transformers/generation/translation_writer.h"
#include "x_transformers/interchange/interchange.h"
#include "x_transformers/ops/linear.h"
#include "x_transformers/optim/parameters.h"
#include "x_transformers/train/language_model.h"
#include "x_transformers/train/measure_step.h"
#include "x_transformers/train/trainer_evaluation.h"
#include "x_transformers/train/trainer_options.h"

namespace x_transformers {

namespace {

struct BenchCommand {
  std::string work, config, inputs, kwargs = "{}", sampling = R"({"temperature": 0})",
                                    device = "cpu", precision = "fp32",
                                    matmul_precision = "highest";
  int64_t batch = 16, seq = 128, prompt = 128, tokens = 128, warm_up = 2, steps = 0, threads = 0;
  bool no_cuda_graph = false;
  Quantization quantize = Quantization::none;
  OptionPrices prices;  ///< asked for where it names variants
};

/// --try, --preset and what belongs to them.
std::vector<const CLI::Option*> add_price_options(CLI::App& command, OptionPrices& prices) {
  auto* tries =
      command.add_option("--try", prices.tries,
                         "measures variants beside the model, as compare takes them "
                         "(attn_qk_norm,ff_glu+ff_swish,depth=[2,4]), and prints a table");
  auto* presets = command.add_option(
      "--preset", prices.presets,
      fmt::format("the same of lists of variants: {}", fmt::join(preset_names(), ", ")));
  for (auto* option : {tries, presets}) option->allow_extra_args(false);
  presets->delimiter(',');
  auto* rounds = command
                     .add_option("--rounds", prices.rounds,
                                 "with --try or --preset: how often each is measured, in turns")
                     ->check(integer_from(1, kMaxSize));
  auto* json =
      command.add_flag("--json", prices.json, "print the table of --try or --preset as JSON");
  return {tries, presets, rounds, json};
}

/// The options of the command line that measure each model alike, as they were given.
std::vector<std::string> given_arguments(const CLI::App& command,
                                         const std::vector<const CLI::Option*>& left_out) {
  std::vector<std::string> arguments;
  for (const auto* option : command.get_options()) {
    const bool is_given = option->count() > 0 && option->nonpositional() &&
                          std::find(left_out.begin(), left_out.end(), option) == left_out.end();
    if (!is_given) continue;
    const bool is_flag = option->get_items_expected_max() == 0;
    arguments.push_back("--" + option->get_single_name());
    if (!is_flag) arguments.push_back(option->results().back());
  }
  return arguments;
}

/// Most memory in use so far: on the device, or of the process.
int64_t peak_memory(const at::Device& device) {
  if (!device.is_cpu()) return memory_in_use(device).value_or(0);
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss * 1024;
}

std::shared_ptr<Model> make_model(const BenchCommand& command, const at::Device& device) {
  at::manual_seed(0);
  auto model = build_trainable_model(read_model_file(command.config), command.config + ":");
  model->module().to(device);
  return model;
}

StepMeasurement measurement(const BenchCommand& command) {
  StepMeasurement how;
  how.warm_up = command.warm_up;
  if (command.steps > 0) how.steps = command.steps;
  how.bf16 = command.precision == "bf16";
  how.cuda_graph = !command.no_cuda_graph;
  return how;
}

Json time_steps(const BenchCommand& command, Model& model, const LossFunction& loss,
                const Batch& batch, const at::Device& device) {
  const auto times = spelled(with_eager_hint(), [&] {
    return measure_step(model, loss, batch, device, measurement(command));
  });
  Json result = {{"ms_per_step", times.elapsed},
                 {"processor_ms_per_step", times.processor},
                 {"cuda_graph", !times.graph_unsupported.has_value()}};
  if (times.graph_unsupported) result["graph_unsupported"] = times.graph_unsupported->line();
  return result;
}

/// The model's sample call, once for each sequence of the batch.
Json bench_sample(const BenchCommand& command, const at::Device& device) {
  const auto model = make_model(command, device);
  const auto call = sample_batch(*model, command.batch, command.seq, device);
  const auto kwargs = Json::parse(call.kwargs);
  const auto loss = [&](const Batch& batch) {
    // A forward that gives no loss is minimised as it is: the work is that of a step.
    const bool has_loss = kwargs.empty() && model->forward_is_loss();
    return has_loss ? model->loss(batch.tensors)
                    : run_objective(*model, batch.tensors, kwargs, ArgumentSource::checked);
  };
  auto result =
      time_steps(command, *model, loss, {call.inputs, command.batch * call.tokens}, device);
  result["tokens_per_s"] =
      static_cast<double>(command.batch * call.tokens) / result["ms_per_step"].get<double>() * 1e3;
  result["batch"] = command.batch;
  result["seq"] = call.tokens;
  return result;
}

/// What `forward --grads` differentiates, of any model.
Json bench_named(const BenchCommand& command, const at::Device& device) {
  at::manual_seed(0);
  const auto model = build_model(read_model_file(command.config), command.config + ":");
  model->module().to(device);
  const auto dtype = command.precision == "bf16" ? at::kBFloat16 : at::kFloat;
  const auto inputs = load_inputs(command.inputs, device, dtype);
  const auto kwargs = parse_kwargs(command.kwargs);
  auto source = ArgumentSource::outside;
  const auto loss = [&](const Batch&) {
    const auto result = spelled(of_inputs(command.inputs, inputs),
                                [&] { return run_objective(*model, inputs, kwargs, source); });
    source = ArgumentSource::checked;  // later calls have the same, and may stand in a graph
    return result;
  };
  return time_steps(command, *model, loss, Batch{}, device);
}

Json bench_train(const BenchCommand& command, const at::Device& device) {
  return command.inputs.empty() ? bench_sample(command, device) : bench_named(command, device);
}

/// The name of a model's type in a file, as in "NonAutoregressiveWrapper".
std::string type_of(const BenchCommand& command) {
  return read_model_file(command.config).value("type", std::string("the model"));
}

/// Throws InputError for a model that does not write token by token.
void require_sessions(const BenchCommand& command, Model& model) {
  const About type = at(OptionPath(command.config + ":") / "type");
  require(model.sequence_writer() == nullptr, type,
          "{} fills whole sequences, which have no time per token; train times its step",
          type_of(command));
  require(model.any_writer() != nullptr, type, "{} writes no tokens; train times its step",
          type_of(command));
}

/// What starts a session, and what it begins with: the prompts, or the first token of each
/// translation of them.
struct SessionStart {
  std::function<std::unique_ptr<DecodingSession>()> session;
  at::Tensor prompts;
};

SessionStart session_start(const BenchCommand& command, Model& model, const at::Device& device) {
  const auto& writer = *model.any_writer();
  const auto readable = writer.readable_tokens();
  require(readable.has_value(), at(OptionPath(command.config + ":") / "token_emb"),
          "does not say which tokens it takes");
  SessionRequest request;
  request.expected_tokens = command.tokens;
  if (command.no_cuda_graph) request.static_caches = false;
  const auto prompts =
      at::randint(readable->count, {command.batch, command.prompt}, at::kLong).to(device);
  if (auto* translator = model.translation_writer()) {
    const auto longest = translator->longest_source(), most = translator->longest_target();
    expect(longest == 0 || command.prompt <= longest, at("--prompt"), command.prompt,
           "at most {}, the longest that is translated", longest);
    expect(most == 0 || command.tokens < most, at("--tokens"), command.tokens,
           "at most {}, as targets have {}, of which one begins them", most - 1, most);
    return {[=] { return translator->start_session(prompts, request); },
            at::zeros({command.batch, 1}, prompts.options())};
  }
  return {[=, session_writer = model.writer()] { return session_writer->start_session(request); },
          prompts};
}

Json bench_generate(const BenchCommand& command, const at::Device& device) {
  const auto model = make_model(command, device);
  require_sessions(command, *model);
  if (command.precision == "bf16")
    cast_parameters(model->module(), trainable_parameters(model->module()), at::kBFloat16);
  if (command.quantize != Quantization::none)
    spelled(quantize_argument(), [&] { return quantize_model(model->module(), command.quantize); });
  const auto start = session_start(command, *model, device);
  auto options = options_from_json<GenerateOptions>(
      parse_json_argument(command.sampling, "--sampling"), "--sampling");
  options.seq_len = command.tokens;
  validate(options);
  const auto steps = command.steps > 0 ? command.steps : 3;
  const Evaluation evaluation(model->module());
  const auto run = [&] { generate(*start.session(), start.prompts, options); };
  const double ms = time_work(run, 1, steps, device).elapsed;
  return {{"batch", command.batch},
          {"prompt", command.prompt},
          {"tokens", command.tokens},
          {"sampling", options_to_json(options, /*only_changed=*/true)},
          {"quantize", name_of(command.quantize)},
          {"ms_per_token", ms / static_cast<double>(command.tokens)},
          {"tokens_per_s", static_cast<double>(command.batch * command.tokens) / ms * 1e3}};
}

/// How it was measured, beside what: all that the same figure takes on another day.
void add_settings(const BenchCommand& command, Json& result) {
  result["device"] = command.device;
  result["threads"] = at::get_num_threads();
  result["precision"] = command.precision;
  result["matmul_precision"] = command.matmul_precision;
  result["no_cuda_graph"] = command.no_cuda_graph;
}

}  // namespace

void add_bench(CLI::App& app) {
  auto* command =
      app.add_subcommand("bench", "measure a model: a training step, or cached generation");
  const auto options = std::make_shared<BenchCommand>();
  command->add_option("work", options->work, "train or generate")
      ->required()
      ->check(one_of({"train", "generate"}));
  auto* config =
      command->add_option("--config", options->config, "model file or run file")->required();
  auto* inputs = command->add_option(
      "--inputs", options->inputs,
      "train: tensors by the names of the arguments (safetensors, or a dict of torch.save), of "
      "any model");
  auto* kwargs = command->add_option("--kwargs", options->kwargs,
                                     "with --inputs: further arguments as a JSON object");
  kwargs->needs(inputs);
  command->add_option("--batch", options->batch, "sequences")
      ->check(integer_from(1, kMaxSize))
      ->excludes(inputs);
  auto* seq = command->add_option("--seq", options->seq, "tokens of a training sequence")
                  ->check(integer_from(1, kMaxSize))
                  ->excludes(inputs);
  auto* prompt = command->add_option("--prompt", options->prompt, "tokens of a prompt")
                     ->check(integer_from(1, kMaxSize));
  auto* tokens = command->add_option("--tokens", options->tokens, "tokens to generate")
                     ->check(integer_from(1, kMaxSize));
  auto* sampling = command->add_option(
      "--sampling", options->sampling,
      "generate: how tokens are drawn, as a JSON object; {\"temperature\": 1, \"top_k\": 50}");
  auto* quantize = add_quantize_option(*command, options->quantize);
  command
      ->add_option("--steps", options->steps,
                   "steps, or generations, to take the median of; default: 7 or 3")
      ->check(integer_from(1, kMaxSize));
  auto* warm_up = command->add_option("--warm-up", options->warm_up, "training steps before those")
                      ->check(integer_from(0, kMaxSize));
  add_threads_option(*command, options->threads);
  command->add_option("--device", options->device, "cpu or cuda");
  command->add_option("--precision", options->precision, "fp32 or bf16")
      ->check(one_of({"fp32", "bf16"}));
  command
      ->add_option("--matmul-precision", options->matmul_precision,
                   "of fp32 products: highest, high or medium")
      ->check(one_of({"highest", "high", "medium"}));
  command->add_flag("--no-cuda-graph", options->no_cuda_graph, "run every step eagerly");
  const std::map<std::string, std::vector<const CLI::Option*>> of_work = {
      {"train", {inputs, kwargs, seq, warm_up}},
      {"generate", {prompt, tokens, sampling, quantize}}};
  auto of_prices = add_price_options(*command, options->prices);
  of_prices.push_back(config);
  const auto* rounds = command->get_option("--rounds");
  command->callback([options, of_work, of_prices, rounds, command] {
    for (const auto& [work, given] : of_work) {
      for (const auto* option : given)
        require(work == options->work || option->count() == 0, at(option->get_name()),
                "only with {}", work);
    }
    auto& prices = options->prices;
    if (prices.tries.empty() && prices.presets.empty()) {
      require(rounds->count() == 0, at("--rounds"), "only with {} or {}", option("--try"),
              option("--preset"));
    } else {
      prices.work = options->work;
      prices.config = options->config;
      prices.arguments = given_arguments(*command, of_prices);
      return spelled(as_flags({"preset"}), [&] { print_option_prices(prices); });
    }
    use_most_threads(options->threads);
    const auto device = open_device(options->device, "--device");
    set_matmul_precision(options->matmul_precision);
    auto result =
        options->work == "train" ? bench_train(*options, device) : bench_generate(*options, device);
    result["memory_bytes"] = peak_memory(device);
    result["work"] = options->work;
    add_settings(*options, result);
    fmt::print("{}\n", result.dump());
  });
}

}  // namespace x_transformers
