// generate: text from a trained model, or (with --config and --outputs) one call with named
// tensors.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "apps/x-transformers/arguments.h"
#include "apps/x-transformers/call.h"
#include "apps/x-transformers/commands.h"
#include "apps/x-transformers/device.h"
#include "apps/x-transformers/prompt.h"
#include "apps/x-transformers/quantize.h"
#include "apps/x-transformers/stop_signals.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/io/file_contents.h"
#include "x_transformers/ops/onednn_product.h"
#include "x_transformers/runs/checkpoint.h"
#include "x_transformers/runs/resume_point.h"
#include "x_transformers/train/language_model.h"
#include "x_transformers/train/text_generation.h"

namespace x_transformers {

namespace {

struct GenerateCommand {
  CallOptions call;
  std::string path, checkpoint, tokenizer, prompt, prompt_file, prompt_ids, prompt_ids_file,
      amateur;
  GenerateOptions options;
  ContrastiveDecodeOptions contrastive;
  std::optional<int64_t> beams;
  double length_penalty = 0;
  std::vector<std::string> stop;
  bool json = false, greedy = false, no_cuda_graph = false;
  Quantization quantize = Quantization::none;
  bool has_piped_prompt = false;  ///< no option has a prompt, standard input may have one
};

/// Options that say which weights of a file are meant.
constexpr std::array kSelecting = {"--key", "--strip", "--rename", "--xt-compat"};
/// Options of writing, as --help groups them; none means anything in a call with named tensors.
constexpr const char* kWriting = "Writing";
/// Options of one call with named tensors: with one of them, --config is of such a call.
constexpr const char* kCalling = "One call with named tensors";

/// What the library calls the options, as they were given here.
Spelling named_as_arguments(const GenerateCommand& command) {
  const std::map<std::string, std::string> names = {
      {"prompt", command.prompt_file.empty() ? "--prompt" : "--prompt-file"},
      {"prompt_ids", command.prompt_ids_file.empty() ? "--prompt-ids" : "--prompt-ids-file"},
      {"seq_len", "--tokens"},
      {"tokenizer", "--tokenizer"},
      {"tokenizer:", command.tokenizer.empty() ? "tokenizer:" : "--tokenizer:"},
      {"stop", "--stop"},
      {"eos_token", "--eos"},
      {"beams", "--beams"},
      {"amateur", "--amateur"},
      {"from_checkpoint", "--checkpoint"},
      {"top_p", "--top-p"},
      {"top_a", "--top-a"},
      {"min_p", "--min-p"},
      {"repetition_penalty", "--repetition-penalty"}};
  return spelled_by([names](const OptionPath& path) {
    const auto found = path.empty() ? names.end() : names.find(path.front());
    return found == names.end() ? path : path.with_front(found->second);
  });
}

/// The options of a group that were given.
std::vector<std::string> given_of(const CLI::App& command, const std::string& group) {
  std::vector<std::string> given;
  for (const auto* option : command.get_options()) {
    if (option->get_group() == group && option->count() > 0) given.push_back(option->get_name());
  }
  return given;
}

/// Options of the other way to call `generate`, which would change nothing in this one.
void refuse_group(const CLI::App& command, const Text& why, const std::string& group) {
  for (const auto& name : given_of(command, group))
    throw InputError(Notice{at(name), text("means nothing {}", why)});
}

bool have_same_tokens(const LanguageModel& a, const LanguageModel& b) {
  const bool have_text = a.tokenizer && b.tokenizer;
  if (have_text) return a.tokenizer->serialized() == b.tokenizer->serialized();
  return !a.tokenizer && !b.tokenizer;
}

std::string amateur_argument(const GenerateCommand& command) {
  return "--amateur " + command.amateur;
}

/// The model of another run that has the same tokens, with weights of as many bits.
LanguageModel load_amateur(const GenerateCommand& command, const LanguageModel& expert,
                           at::Device device) {
  auto amateur = spelled(prefixed(amateur_argument(command) + ": --", {"quantize"}), [&] {
    return load_language_model({.path = command.amateur, .tokenizer = command.tokenizer}, device,
                               parse_dtype(command.call.dtype), command.quantize);
  });
  const About about = at(OptionPath(amateur_argument(command)));
  require(have_same_tokens(amateur, expert), about, "its tokenizer is not that of {}",
          command.path);
  require(amateur.model->writer() != nullptr, about, "its model does not write token by token");
  return amateur;
}

/// Which tokens there are is known only once the model is.
void require_eos(const GenerateCommand& command, const LanguageModel& model) {
  const auto tokens = model.written_tokens();
  if (!command.options.eos_token || !tokens) return;
  const auto eos = *command.options.eos_token;
  expect(eos >= 0 && eos < tokens->count, at("--eos"), eos, "an integer from 0 to {}",
         tokens->count - 1);
}

/// Where the weights stand, and in words which ones of a run they are; no words: they are of no run
/// with checkpoints.
struct ChosenWeights {
  LanguageModelFiles files;
  std::string words;
  std::string checkpoint = {};  ///< its folder
};

ChosenWeights choose_weights(const GenerateCommand& command) {
  ChosenWeights chosen;
  chosen.files = {.path = command.path,
                  .config = command.call.config,
                  .tokenizer = command.tokenizer,
                  .selection = command.call.selection};
  if (chosen.files.path.empty()) chosen.files.path = command.call.weights;
  const CheckpointFolder folder(chosen.files.path);
  const bool is_run = !folder.steps().empty();
  require(is_run || command.checkpoint.empty(), at("--checkpoint"),
          "{} is no folder of a run with checkpoints", chosen.files.path.string());
  if (!is_run) return chosen;
  const auto from = command.checkpoint.empty() ? "latest" : command.checkpoint;
  const auto latest = folder.latest_step(), best = folder.best_step();
  const auto step = resume_point(folder, from);
  if (!step) return chosen;
  chosen.checkpoint = folder.step_folder(*step).string();
  if (!command.checkpoint.empty()) chosen.files.path = chosen.checkpoint;
  chosen.words = fmt::format("{}: checkpoint of step {}", folder.directory().string(), *step);
  if (step == latest) chosen.words += ", the latest";
  if (step == best) {
    chosen.words += step == latest ? " and the best" : ", the best";
  } else if (best) {
    chosen.words += fmt::format("; --checkpoint best takes step {}", *best);
  }
  return chosen;
}

/// What to write, with the prompt in it.
TextGeneration generation_of(const GenerateCommand& command) {
  TextGeneration generation;
  generation.prompt = command.prompt_file.empty() ? command.prompt : read_text(command.prompt_file);
  if (command.has_piped_prompt) generation.prompt = piped_text();
  if (!command.prompt_ids_file.empty()) {
    generation.prompt_ids = read_ids(command.prompt_ids_file);
  } else if (!command.prompt_ids.empty()) {
    generation.prompt_ids = parse_ids(command.prompt_ids, "--prompt-ids");
  }
  generation.options = command.options;
  if (command.greedy) generation.options.temperature = 0;
  generation.contrastive = command.contrastive;
  generation.beams = command.beams;
  generation.length_penalty = command.length_penalty;
  generation.stop = command.stop;
  if (command.no_cuda_graph) generation.static_caches = false;
  return generation;
}

void write_out(const std::string& piece) {
  std::fwrite(piece.data(), 1, piece.size(), stdout);
  std::fflush(stdout);
}

std::string listed(const std::vector<int64_t>& ids) {
  return fmt::format("{}", fmt::join(ids, ","));
}

/// Writes the prompt and what follows it to stdout as it comes: text, or ids where there is no
/// tokenizer. The prompt is shown, after `words` on stderr, once the first token has shown that it
/// is a good one. A signal ends the text where it is, if it comes token by token.
void stream_out(LanguageModel& model, TextGeneration& generation, const std::string& prompt,
                const std::string& words) {
  bool has_begun = false;
  const auto begin = [&] {
    if (!has_begun) {
      if (!words.empty()) std::fprintf(stderr, "x-transformers: %s\n", words.c_str());
      write_out(prompt);
    }
    return std::exchange(has_begun, true);
  };
  if (model.tokenizer) {
    generation.write = [&](const std::string& piece) {
      begin();
      write_out(piece);
    };
  } else {
    generation.write_id = [&](int64_t id) {
      const bool follows = begin() || !prompt.empty();
      write_out((follows ? "," : "") + std::to_string(id));
    };
  }
  std::optional<StopSignals> signals;
  if (!generation.beams && !model.model->sequence_writer()) {
    signals.emplace();
    generation.wants_stop = [] { return StopSignals::received() != 0; };
  }
  write_text(model, generation);
  begin();
  write_out("\n");
}

void print_json(LanguageModel& model, const TextGeneration& generation, const std::string& prompt,
                const std::string& checkpoint) {
  const auto written = write_text(model, generation);
  Json result = {{"prompt_ids", written.prompt_ids}, {"ids", written.ids}};
  if (!checkpoint.empty()) result["checkpoint"] = checkpoint;
  if (model.tokenizer) {
    result["prompt"] = prompt;
    result["text"] = written.text;
  }
  fmt::print("{}\n", result.dump(-1, ' ', false, Json::error_handler_t::replace));
}

/// The prompt as it is shown.
std::string shown_prompt(const LanguageModel& model, const TextGeneration& generation) {
  if (!generation.prompt_ids) return generation.prompt;
  const auto& ids = *generation.prompt_ids;
  if (!model.tokenizer) return listed(ids);
  return spelled(below("prompt_ids"), [&] { return model.tokenizer->decode(ids); });
}

void run_generation(const GenerateCommand& command) {
  use_most_threads(command.call.threads);
  const auto device = open_device(command.call.device, "--device");
  if (device.is_cpu() && parse_dtype(command.call.dtype) == at::kBFloat16 && emulates_bf16())
    std::fprintf(stderr, "x-transformers: --dtype bfloat16: %s\n", kEmulatedBf16);
  auto generation = generation_of(command);
  const auto weights = choose_weights(command);
  auto model = spelled(quantize_argument(), [&] {
    return spelled(weight_arguments(), [&] {
      return load_language_model(weights.files, device, parse_dtype(command.call.dtype),
                                 command.quantize);
    });
  });
  require_eos(command, model);
  std::optional<LanguageModel> amateur;
  if (!command.amateur.empty()) {
    amateur = load_amateur(command, model, device);
    generation.amateurs.push_back(amateur->model);
  }
  if (model.quantized) tell_quantized(*model.quantized, command.quantize);
  if (amateur && amateur->quantized)
    tell_quantized(*amateur->quantized, command.quantize, amateur_argument(command));
  const auto prompt = shown_prompt(model, generation);
  if (command.json) return print_json(model, generation, prompt, weights.checkpoint);
  // What is translated is not part of the text.
  stream_out(model, generation, model.model->translation_writer() ? "" : prompt, weights.words);
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
                       "draw from the most probable tokens whose probabilities add up to this")
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

/// Whether `command` was given one of these.
bool has_any(const CLI::App& command, std::span<const char* const> names) {
  return std::any_of(names.begin(), names.end(),
                     [&](const char* name) { return command.count(name) > 0; });
}

/// Has weights that were given as `path` beside --config be those of --weights.
void take_path_as_weights(GenerateCommand& options) {
  auto& call = options.call;
  if (call.config.empty() || options.path.empty()) return;
  const auto config = std::filesystem::path(options.path) / checkpoint_file::kConfig;
  std::error_code ignored;
  require(!std::filesystem::exists(config, ignored), at("--config"),
          "means nothing beside {}, which has a {} of its own", options.path,
          checkpoint_file::kConfig);
  require(call.weights.empty(), at(OptionPath("--weights " + call.weights)),
          "means nothing beside {}, which are weights too", options.path);
  call.weights = std::exchange(options.path, "");
}

/// Throws InputError for a file of weights of which nothing says what model they are of.
void require_config(const GenerateCommand& options) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  const fs::path path = options.path;
  if (!options.call.config.empty() || !fs::is_regular_file(path, ignored)) return;
  const bool is_beside = fs::exists(path.parent_path() / checkpoint_file::kConfig, ignored);
  const bool is_json = path.extension() == ".json" && !path.string().ends_with(".index.json");
  const About about = at(OptionPath(options.path + ":"));
  if (is_json) {
    Notice notice{about, {}, "the folder of a run or weights", "a model file"};
    notice.hint =
        text("{} {} {} FILE writes with it", option("--config"), options.path, option("--weights"));
    throw InputError(std::move(notice));
  }
  if (!is_beside) {
    Notice notice{about, text("there is no {} beside it", checkpoint_file::kConfig)};
    notice.hint = text("{} MODEL.json says what model the weights are of", option("--config"));
    throw InputError(std::move(notice));
  }
}

void run_command(GenerateCommand& options, const CLI::App& command) {
  take_path_as_weights(options);
  const bool has_config = !options.call.config.empty(), has_weights = !options.call.weights.empty();
  if (has_config && !given_of(command, kCalling).empty()) {
    for (const auto* name : kSelecting) {
      require(command.count(name) == 0 || has_weights, at(name), "needs {}", option("--weights"));
    }
    refuse_group(command,
                 text("with {} and {}: give it in {}", option("--config"), option("--outputs"),
                      option("--kwargs")),
                 kWriting);
    return run_call(options.call, "generate");
  }
  refuse_group(command, text("without {}", option("--config")), kCalling);
  require(has_config || !has_weights, at("--weights"),
          "needs {} MODEL.json, which says what model the weights are of", option("--config"));
  require(!has_config || has_weights, at("--config"),
          "describes the model of {}, which is needed to write text; a run's folder has both",
          option("--weights"));
  require(has_config || !options.path.empty(), at("generate"),
          "expected the folder of a run, or {} MODEL.json with {} FILE; for a call with tensors "
          "{} with {} and {}",
          option("--config"), option("--weights"), option("--config"), option("--inputs"),
          option("--outputs"));
  require_config(options);
  options.has_piped_prompt = !has_any(
      command, std::array{"--prompt", "--prompt-file", "--prompt-ids", "--prompt-ids-file"});
  if (command.count("--seed") > 0) options.options.seed = options.call.seed;
  spelled(named_as_arguments(options), [&] { run_generation(options); });
}

}  // namespace

void add_generate(CLI::App& app) {
  auto* command = app.add_subcommand("generate", "write with a trained model");
  command->footer(
      "Ctrl-C (SIGINT), SIGTERM and SIGHUP end a text that comes token by token after the token "
      "that is being written; the exit code is 0 then. A second Ctrl-C ends the program at once.");
  const auto options = std::make_shared<GenerateCommand>();
  command->add_option("path", options->path,
                      "folder of a run or checkpoint, or a file of weights beside its config.json; "
                      "of any other weights --config and --weights say what they are");
  const std::string usual_group = command->option_defaults()->get_group();
  command->option_defaults()->group(kWriting);
  command->add_option("--checkpoint", options->checkpoint,
                      "of a run's folder: latest (the default), best, last-good or a step");
  auto* prompt = command->add_option("--prompt", options->prompt, "text to go on from");
  auto* prompt_file =
      command
          ->add_option("--prompt-file", options->prompt_file,
                       "file with that text; -: standard input, without its last line end. A pipe "
                       "is read without this option, too, where no prompt is given")
          ->excludes(prompt);
  auto* prompt_ids =
      command
          ->add_option("--prompt-ids", options->prompt_ids,
                       "tokens to go on from, as in 12,7,9; without a tokenizer ids come out, too")
          ->excludes(prompt)
          ->excludes(prompt_file);
  command
      ->add_option("--prompt-ids-file", options->prompt_ids_file,
                   "file with these tokens: as text, or .npy or .bin")
      ->excludes(prompt)
      ->excludes(prompt_file)
      ->excludes(prompt_ids);
  command->add_option("--tokenizer", options->tokenizer,
                      "bytes or a sentencepiece .model file, for a model that has none");
  command->add_option("--tokens", options->options.seq_len, "tokens to write at most")
      ->check(integer_from(0, kMaxSize));
  add_decoding(*command, *options);
  add_optional(*command, "--eos", options->options.eos_token, "token that ends the text");
  command->add_option("--stop", options->stop,
                      "text that ends the text; may be given several times");
  command->add_flag("--no-cuda-graph", options->no_cuda_graph, "run every step eagerly");
  add_quantize_option(*command, options->quantize);
  command->add_flag("--json", options->json, "print the result as JSON, at the end");
  command->option_defaults()->group(usual_group);
  add_call_options(*command, options->call);
  for (const char* name : {"--inputs", "--kwargs", "--outputs"})
    command->get_option(name)->group(kCalling);
  // Without --config the weights are those of `path`.
  for (const auto* name : kSelecting)
    command->get_option(name)->remove_needs(command->get_option("--weights"));
  command->get_option("--weights")
      ->description(
          "weights of --config: safetensors, a file of torch.save, an index or a folder. A call "
          "with --outputs can do without, and then has new, random ones");
  command->get_option("--seed")->default_str("another each time; 0 with --config");
  command->callback([options, command] { run_command(*options, *command); });
}

}  // namespace x_transformers
