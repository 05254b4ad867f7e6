// generate: text from a trained model, or (with --config) one call with named tensors.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>

#include "apps/x-transformers/call.h"
#include "apps/x-transformers/commands.h"
#include "apps/x-transformers/device.h"
#include "x_transformers/core/json.h"
#include "x_transformers/train/language_model.h"

namespace x_transformers {

namespace {

struct GenerateCommand {
  CallOptions call;
  std::string path, prompt, prompt_file, amateur;
  GenerateOptions options;
  ContrastiveDecodeOptions contrastive;
  std::vector<std::string> stop;
  bool json = false, greedy = false, no_cuda_graph = false;
};

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  require(file.good(), path + ": cannot be read");
  require(!std::filesystem::is_directory(path), path + ": is a folder, not a text");
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

/// Options of the other way to call `generate`, which would change nothing in this one.
void refuse_others(const CLI::App& command, const std::string& why,
                   const std::vector<const char*>& names) {
  for (const auto* name : names) {
    require(command.count(name) == 0, fmt::format("generate: {} means nothing {}", name, why));
  }
}

/// The model of another run that has the same tokens.
AutoregressiveWrapper load_amateur(const GenerateCommand& command, const LanguageModel& expert,
                                   at::Device device) {
  const auto amateur =
      load_language_model(command.amateur, device, parse_dtype(command.call.dtype));
  require(
      amateur.tokenizer->serialized() == expert.tokenizer->serialized(),
      fmt::format("--amateur {}: its tokenizer is not that of {}", command.amateur, command.path));
  return amateur.model;
}

void run_generation(GenerateCommand& command) {
  const auto device = open_device(command.call.device);
  auto model = load_language_model(command.path, device, parse_dtype(command.call.dtype));
  TextGeneration generation;
  generation.prompt = command.prompt_file.empty() ? command.prompt : read_file(command.prompt_file);
  generation.options = command.options;
  if (command.greedy) generation.options.temperature = 0;
  if (!command.amateur.empty()) generation.amateurs.push_back(load_amateur(command, model, device));
  generation.contrastive = command.contrastive;
  generation.stop = command.stop;
  if (command.no_cuda_graph) generation.fixed_caches = false;
  bool has_begun = false;
  const auto write = [](const std::string& piece) {
    std::fwrite(piece.data(), 1, piece.size(), stdout);
  };
  if (!command.json) {
    // The prompt is shown once the first token has shown that it is a good one.
    generation.write = [&](const std::string& piece) {
      if (!has_begun) write(generation.prompt);
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
    write(has_begun ? "\n" : generation.prompt + "\n");
  }
}

template <class T>
void add_filter(CLI::App& command, const char* name, std::optional<T>& value, const char* help) {
  command.add_option_function<T>(
      name, [&value](const T& given) { value = given; }, help);
}

}  // namespace

void add_generate(CLI::App& app) {
  auto* command = app.add_subcommand("generate", "write with a trained model");
  const auto options = std::make_shared<GenerateCommand>();
  auto& sampling = options->options;
  sampling.temperature = 0.8;
  command->add_option(
      "path", options->path,
      "folder of a run or checkpoint, or a model.safetensors beside its config.json");
  command->add_option("--prompt", options->prompt, "text to go on from");
  command->add_option("--prompt-file", options->prompt_file, "file with that text");
  command->add_option("--tokens", sampling.seq_len, "tokens to write at most");
  command->add_option("--temperature", sampling.temperature,
                      "divides the logits; 0: always the most probable token");
  command->add_flag("--greedy", options->greedy, "the same as --temperature 0");
  add_filter(*command, "--top-k", sampling.top_k, "draw from this many tokens");
  add_filter(*command, "--top-p", sampling.top_p,
             "draw from the most probable tokens up to this sum");
  add_filter(*command, "--top-a", sampling.top_a,
             "draw from tokens of at least this times the highest probability squared");
  add_filter(*command, "--min-p", sampling.min_p,
             "draw from tokens of at least this times the highest probability");
  command->add_option("--repetition-penalty", sampling.repetition_penalty,
                      "above 1 makes repetition less likely");
  add_filter(*command, "--eos", sampling.eos_token, "token that ends the text");
  command->add_option("--amateur", options->amateur,
                      "folder of a weaker model to decode against (contrastive decoding)");
  command->add_option("--contrastive-beta", options->contrastive.beta,
                      "how much the weaker model counts");
  command->add_option("--contrastive-alpha", options->contrastive.alpha,
                      "tokens below this share of the highest probability are ruled out");
  command->add_option("--stop", options->stop,
                      "text that ends the text; may be given several times");
  command->add_flag("--no-cuda-graph", options->no_cuda_graph, "run every step eagerly");
  command->add_flag("--json", options->json, "the result as JSON, at the end");
  add_call_options(*command, options->call);
  command->callback([options, command] {
    if (!options->call.config.empty()) {
      refuse_others(*command, "with --config: give it in --kwargs",
                    {"path", "--prompt", "--prompt-file", "--tokens", "--temperature", "--greedy",
                     "--top-k", "--top-p", "--top-a", "--min-p", "--repetition-penalty", "--eos",
                     "--amateur", "--stop", "--no-cuda-graph", "--json"});
      return run_call(options->call, "generate");
    }
    refuse_others(*command, "without --config", {"--weights", "--inputs", "--kwargs", "--outputs"});
    require(!options->path.empty(),
            "generate: a folder, or --config with --weights, --inputs and --outputs, is needed");
    if (command->count("--seed") > 0) options->options.seed = options->call.seed;
    run_generation(*options);
  });
}

}  // namespace x_transformers
