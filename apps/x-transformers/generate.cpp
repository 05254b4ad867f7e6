// generate: text from a trained model, or (with --config) one call with named tensors.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdio>
#include <memory>

#include "apps/x-transformers/arguments.h"
#include "apps/x-transformers/call.h"
#include "apps/x-transformers/commands.h"
#include "apps/x-transformers/device.h"
#include "x_transformers/core/json.h"
#include "x_transformers/train/language_model.h"
#include "x_transformers/train/text_generation.h"

namespace x_transformers {

namespace {

struct GenerateCommand {
  CallOptions call;
  std::string path, prompt, prompt_file, amateur;
  GenerateOptions options;
  ContrastiveDecodeOptions contrastive;
  std::optional<int64_t> beams;
  double length_penalty = 0;
  std::vector<std::string> stop;
  bool json = false, greedy = false, no_cuda_graph = false;
};

/// Options of the other way to call `generate`, which would change nothing in this one.
void refuse_others(const CLI::App& command, const std::string& why,
                   const std::vector<const char*>& names) {
  for (const auto* name : names) {
    require(command.count(name) == 0, fmt::format("generate: {} means nothing {}", name, why));
  }
}

/// The model of another run that has the same tokens.
std::shared_ptr<Model> load_amateur(const GenerateCommand& command, const LanguageModel& expert,
                                    at::Device device) {
  const auto amateur =
      load_language_model(command.amateur, device, parse_dtype(command.call.dtype));
  require(
      amateur.tokenizer->serialized() == expert.tokenizer->serialized(),
      fmt::format("--amateur {}: its tokenizer is not that of {}", command.amateur, command.path));
  return amateur.model;
}

/// Which tokens there are is known only once the model is.
void require_eos(const GenerateCommand& command, const LanguageModel& model) {
  const auto tokens = model.written_tokens();
  if (!command.options.eos_token || !tokens) return;
  const auto eos = *command.options.eos_token;
  expect(eos >= 0 && eos < tokens->count, at("--eos"), eos, "an integer from 0 to {}",
         tokens->count - 1);
}

void run_generation(GenerateCommand& command) {
  const auto device = open_device(command.call.device);
  auto model = load_language_model(command.path, device, parse_dtype(command.call.dtype));
  require_eos(command, model);
  TextGeneration generation;
  generation.prompt = command.prompt_file.empty() ? command.prompt : read_text(command.prompt_file);
  generation.options = command.options;
  if (command.greedy) generation.options.temperature = 0;
  if (!command.amateur.empty()) generation.amateurs.push_back(load_amateur(command, model, device));
  generation.contrastive = command.contrastive;
  generation.beams = command.beams;
  generation.length_penalty = command.length_penalty;
  generation.stop = command.stop;
  if (command.no_cuda_graph) generation.static_caches = false;
  // What is translated is not part of the text.
  const auto beginning = model.model->translation_writer() ? "" : generation.prompt;
  bool has_begun = false;
  const auto write = [](const std::string& piece) {
    std::fwrite(piece.data(), 1, piece.size(), stdout);
  };
  if (!command.json) {
    // The prompt is shown once the first token has shown that it is a good one.
    generation.write = [&](const std::string& piece) {
      if (!has_begun) write(beginning);
      has_begun = true;
      write(piece);
      std::fflush(stdout);
    };
  }
  const auto text = write_text(model, generation);
  if (command.json) {
    const Json result = {{"prompt", generation.prompt}, {"text", text}};
    fmt::print("{}\n", result.dump(-1, ' ', false, Json::error_handler_t::replace));
  } else {
    write(has_begun ? "\n" : beginning + "\n");
  }
}

template <class T>
CLI::Option* add_optional(CLI::App& command, const char* name, std::optional<T>& value,
                          const char* help) {
  return command.add_option_function<T>(
      name, [&value](const T& given) { value = given; }, help);
}

/// Options of drawing tokens, which mean nothing where none are drawn.
std::vector<CLI::Option*> add_sampling(CLI::App& command, GenerateOptions& sampling) {
  const auto is_positive = [](double value) { return value > 0 && std::isfinite(value); };
  sampling.temperature = 0.8;
  return {command
              .add_option("--temperature", sampling.temperature,
                          "divides the logits; 0: always the most probable token")
              ->check(number_that([](double value) { return value >= 0 && std::isfinite(value); },
                                  "a number of at least 0")),
          add_optional(command, "--top-k", sampling.top_k, "draw from this many tokens")
              ->check(integer_from(1)),
          add_optional(command, "--top-p", sampling.top_p,
                       "draw from the most probable tokens up to this sum")
              ->check(number_from(0, 1)),
          add_optional(command, "--top-a", sampling.top_a,
                       "draw from tokens of at least this times the highest probability squared")
              ->check(number_from(0, 1)),
          add_optional(command, "--min-p", sampling.min_p,
                       "draw from tokens of at least this times the highest probability")
              ->check(number_from(0, 1)),
          command
              .add_option("--repetition-penalty", sampling.repetition_penalty,
                          "above 1 makes repetition less likely")
              ->check(number_that(is_positive, "a number above 0"))};
}

std::vector<CLI::Option*> add_contrastive(CLI::App& command, GenerateCommand& options) {
  auto* amateur =
      command.add_option("--amateur", options.amateur,
                         "folder of a weaker model to decode against (contrastive decoding)");
  auto* beta = command
                   .add_option("--contrastive-beta", options.contrastive.beta,
                               "how much the weaker model counts")
                   ->check(number_that([](double value) { return std::isfinite(value); },
                                       "a finite number"));
  auto* alpha = command
                    .add_option("--contrastive-alpha", options.contrastive.alpha,
                                "tokens below this share of the highest probability are ruled out")
                    ->check(number_that([](double value) { return value > 0 && value <= 1; },
                                        "a number above 0 and up to 1"));
  beta->needs(amateur);
  alpha->needs(amateur);
  return {amateur, beta, alpha};
}

CLI::Option* add_beams(CLI::App& command, GenerateCommand& options) {
  auto* beams = add_optional(command, "--beams", options.beams,
                             "beam search: continuations kept; the text comes at the end")
                    ->check(integer_from(1));
  command
      .add_option("--length-penalty", options.length_penalty,
                  "of beam search: above 0 favours longer texts (they need --eos), below 0 shorter")
      ->check(number_that([](double value) { return std::isfinite(value); }, "a finite number"))
      ->needs(beams);
  return beams;
}

void add_decoding(CLI::App& command, GenerateCommand& options) {
  auto* greedy = command.add_flag("--greedy", options.greedy, "the same as --temperature 0");
  const auto sampling = add_sampling(command, options.options);
  auto* beams = add_beams(command, options);
  const auto contrastive = add_contrastive(command, options);
  beams->excludes(greedy);
  for (auto* option : sampling) {
    beams->excludes(option);
    // Greedy decoding has its penalty, too.
    if (option->get_name() != "--repetition-penalty") greedy->excludes(option);
  }
  for (auto* option : contrastive) beams->excludes(option);
}

}  // namespace

void add_generate(CLI::App& app) {
  auto* command = app.add_subcommand("generate", "write with a trained model");
  const auto options = std::make_shared<GenerateCommand>();
  command->add_option(
      "path", options->path,
      "folder of a run or checkpoint, or a model.safetensors beside its config.json");
  auto* prompt = command->add_option("--prompt", options->prompt, "text to go on from");
  command->add_option("--prompt-file", options->prompt_file, "file with that text")
      ->excludes(prompt);
  command->add_option("--tokens", options->options.seq_len, "tokens to write at most")
      ->check(integer_from(0));
  add_decoding(*command, *options);
  add_optional(*command, "--eos", options->options.eos_token, "token that ends the text");
  command->add_option("--stop", options->stop,
                      "text that ends the text; may be given several times");
  command->add_flag("--no-cuda-graph", options->no_cuda_graph, "run every step eagerly");
  command->add_flag("--json", options->json, "the result as JSON, at the end");
  add_call_options(*command, options->call);
  command->get_option("--seed")->default_str("another each time; 0 with --config");
  command->callback([options, command] {
    if (!options->call.config.empty()) {
      refuse_others(*command, "with --config: give it in --kwargs",
                    {"path", "--prompt", "--prompt-file", "--tokens", "--temperature", "--greedy",
                     "--top-k", "--top-p", "--top-a", "--min-p", "--repetition-penalty", "--eos",
                     "--amateur", "--beams", "--stop", "--no-cuda-graph", "--json"});
      return run_call(options->call, "generate");
    }
    refuse_others(*command, "without --config",
                  {"--weights", "--key", "--strip", "--rename", "--xt-compat", "--inputs",
                   "--kwargs", "--outputs"});
    require(!options->path.empty(),
            "generate: a folder, or --config with --weights, --inputs and --outputs, is needed");
    if (command->count("--seed") > 0) options->options.seed = options->call.seed;
    run_generation(*options);
  });
}

}  // namespace x_transformers
