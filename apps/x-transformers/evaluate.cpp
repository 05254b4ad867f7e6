// evaluate: how well a trained model predicts a text, where, and at which lengths.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "apps/x-transformers/arguments.h"
#include "apps/x-transformers/commands.h"
#include "apps/x-transformers/quantize.h"
#include "x_transformers/compare/text_evaluation.h"
#include "x_transformers/core/cause.h"
#include "x_transformers/core/device.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/format.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/json_options.h"
#include "x_transformers/data/data_options.h"
#include "x_transformers/data/examples.h"
#include "x_transformers/data/token_data.h"
#include "x_transformers/interchange/token_predictor.h"
#include "x_transformers/runs/checkpoint.h"
#include "x_transformers/train/language_model.h"
#include "x_transformers/train/run_tokenizer.h"

namespace x_transformers {

namespace {

namespace fs = std::filesystem;

struct EvaluateCommand {
  std::string run, data, device = "cpu", lengths = "1x";
  int64_t worst = 5, threads = 0;
  bool validation = false, json = false;
  Quantization quantize = Quantization::none;
};

/// 1x,2x,512: times the length of training, or tokens.
std::vector<int64_t> parse_lengths(const std::string& text, int64_t trained) {
  std::vector<int64_t> lengths;
  size_t begin = 0;
  while (begin <= text.size()) {
    const auto comma = std::min(text.find(',', begin), text.size());
    const auto item = text.substr(begin, comma - begin);
    char* end = nullptr;
    const double number = std::strtod(item.c_str(), &end);
    const std::string unit = end;
    const double length = unit == "x" ? number * static_cast<double>(trained) : number;
    const bool is_right = end != item.c_str() && (unit == "x" || unit.empty()) && length >= 1 &&
                          length < 1e9 && (unit == "x" || length == std::floor(length));
    expect(is_right, at("--lengths"), item,
           "times the length of training, or tokens, as in 1x,2x,4x or 512");
    lengths.push_back(std::llround(length));
    begin = comma + 1;
  }
  return lengths;
}

/// The options by which a run read its data.
DataOptions data_of_run(const fs::path& folder) {
  const auto config = read_json_file((folder / checkpoint_file::kConfig).string());
  const OptionPath where((folder / checkpoint_file::kConfig).string() + ":");
  return config.contains("data") ? options_from_json<DataOptions>(config["data"], where / "data")
                                 : DataOptions{};
}

/// The text of `path` as the run's own tokens.
TokenData open_text(const EvaluateCommand& command, const DataOptions& of_run,
                    const fs::path& folder, int64_t num_tokens) {
  DataOptions options;
  options.path = command.data;
  options.dtype = of_run.dtype;
  options.val_fraction = 0;
  options.seq_len = 1;
  if (of_run.format == "bytes") options.format = "bytes";
  if (command.validation) {
    options = of_run;
    options.seq_len = 1;
  }
  if (was_trained_on_text(folder)) options.tokenizer = resumed_tokenizer(of_run.tokenizer, folder);
  return open_data(options, num_tokens);
}

/// Throws InputError unless the run kept a part of its data for validation.
void require_validation(bool is_kept, const EvaluateCommand& command) {
  const OptionPath data("data");
  require(is_kept, at("--validation"), "{} kept nothing of its data for validation ({}, {})",
          command.run, option(data / "val_fraction"), option(data / "val_path"));
}

/// The part of `text` that is evaluated.
const TokenDataset& evaluated_part(const EvaluateCommand& command, const TokenData& text) {
  if (!command.validation) return text.train;
  require_validation(text.validation.has_value(), command);
  return *text.validation;
}

void print_length(const TextEvaluation& found, const Tokenizer* tokenizer,
                  std::optional<double> bytes_per_token) {
  if (!found.reason.empty()) {
    fmt::print("{} per sequence: {}\n", how_many(found.seq_len, "token"), found.reason);
    return;
  }
  const auto json = evaluation_json(found, tokenizer, bytes_per_token);
  fmt::print("{} per sequence, {} predicted{}\n", how_many(found.seq_len, "token"), found.tokens,
             found.also_knows.empty() ? "" : ", by those before and " + found.also_knows);
  fmt::print("  loss               {:.4f} nats per token, perplexity {:.4g}\n", found.loss,
             std::exp(found.loss));
  if (json["bits_per_byte"].is_number())
    fmt::print("  bits per byte      {:.4f}\n", json["bits_per_byte"].get<double>());
  fmt::print(
      "  accuracy           the most likely token was the next one in {:.2f} % of the places\n",
      100 * found.accuracy);
  fmt::print("  calibration error  {:.2f} % between how sure and how right they were\n",
             100 * found.calibration_error);
  for (const auto& bin : found.calibration)
    fmt::print("    {:>3.0f} to {:>3.0f} %  sure {:>5.1f} %, right {:>5.1f} %, {}\n", 100 * bin.low,
               100 * bin.high, 100 * bin.confidence, 100 * bin.accuracy,
               how_many(bin.tokens, "token"));
  fmt::print("  loss by tokens before\n");
  for (const auto& part : found.by_position)
    fmt::print("    {:>13}  {:.4f}\n",
               part.first == part.last ? fmt::format("{}", part.first)
                                       : fmt::format("{} to {}", part.first, part.last),
               part.loss);
  if (found.worst.empty()) return;
  fmt::print("  passages that cost most\n");
  for (const auto& passage : json["worst"]) {
    fmt::print("    {:.4f}  {}token {}", passage["loss"].get<double>(),
               passage.contains("place") ? passage["place"].get<std::string>() + ", " : "",
               passage["token"].get<int64_t>());
    if (passage.contains("text"))
      fmt::print("  {}", Json(passage["text"].get<std::string>())
                             .dump(-1, ' ', false, Json::error_handler_t::replace));
    fmt::print("\n");
  }
}

/// What was found, at one length or several.
void print_all(const EvaluateCommand& command, const std::vector<TextEvaluation>& all,
               const Tokenizer* tokenizer, std::optional<double> bytes_per_token) {
  if (!command.json) {
    for (const auto& found : all) print_length(found, tokenizer, bytes_per_token);
    return;
  }
  nlohmann::ordered_json json{{"run", command.run}, {"data", command.data}};
  if (command.validation) json["part"] = "validation";
  for (const auto& found : all)
    json["lengths"].push_back(evaluation_json(found, tokenizer, bytes_per_token));
  fmt::print("{}\n", json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
}

/// Pairs of texts, or tensors of their tokens.
void evaluate_pairs(const EvaluateCommand& command, const DataOptions& of_run,
                    const LanguageModel& loaded, const at::Device& device) {
  require(command.lengths == "1x", at("--lengths"), "is for texts: pairs are as long as they are");
  DataOptions options;
  options.path = command.data;
  options.val_fraction = 0;
  if (command.validation) options = of_run;
  const bool are_tensors = fs::path(command.data).extension() == ".safetensors";
  options.format = are_tensors ? "tensors" : "pairs";
  require(are_tensors || loaded.tokenizer, at(command.run + ":"),
          "has no tokenizer, so its data are tensors: give {} a .safetensors file",
          option("--data"));
  const auto examples =
      are_tensors ? open_tensor_examples(options) : open_pair_examples(options, *loaded.tokenizer);
  require_validation(!command.validation || !examples.validation.tensors.empty(), command);
  const auto& part = command.validation ? examples.validation : examples.training;
  print_all(command, {evaluate_examples(*loaded.model, part, command.worst, device)},
            loaded.tokenizer.get(), {});
}

/// Whether `path` is what a run was trained on, or stands in the folder that was.
bool is_training_data(const std::string& path, const DataOptions& of_run) {
  std::error_code ignored;
  return !of_run.path.empty() &&
         (fs::equivalent(path, of_run.path, ignored) ||
          fs::equivalent(fs::path(path).parent_path(), of_run.path, ignored));
}

/// Says of a run's own training data that its loss is none of new text.
void tell_training_data(const EvaluateCommand& command, const DataOptions& of_run) {
  if (command.validation || !is_training_data(command.data, of_run)) return;
  const bool is_whole = !of_run.val_path.empty() || of_run.val_fraction <= 0;
  const auto share =
      is_whole ? std::string("all") : fmt::format("{:.3g} %", 100 * (1 - of_run.val_fraction));
  std::fprintf(stderr,
               "x-transformers: %s was trained on (%s of it): the loss says little of new text; "
               "--validation takes what was kept from training\n",
               command.data.c_str(), share.c_str());
}

void run_evaluate(EvaluateCommand command) {
  use_most_threads(command.threads);
  const auto device = open_device(command.device, "--device");
  const fs::path folder = command.run;
  const auto loaded = spelled(quantize_argument(), [&] {
    return load_language_model({.path = folder}, device, at::kFloat, command.quantize);
  });
  if (loaded.quantized) tell_quantized(*loaded.quantized, command.quantize);
  predictor_of(*loaded.model);
  const auto of_run = data_of_run(fs::is_directory(folder) ? folder : folder.parent_path());
  if (command.validation) command.data = of_run.path;
  if (loaded.model->translation_writer() != nullptr)
    return evaluate_pairs(command, of_run, loaded, device);
  const auto task = loaded.model->token_task();
  require(task.has_value(), at(command.run + ":"), "does not learn from a stream of tokens");
  const auto trained = of_run.seq_len ? of_run.seq_len : task->longest;
  require(trained.has_value(), at(command.run + ":"), "does not say how long its sequences were");
  const auto lengths = parse_lengths(command.lengths, *trained);
  const auto text = open_text(
      command, of_run, fs::is_directory(folder) ? folder : folder.parent_path(), task->num_tokens);
  const auto& part = evaluated_part(command, text);
  const auto tokens = part.read(0, part.size());
  std::vector<TextEvaluation> all;
  for (const auto length : lengths) {
    try {
      all.push_back(evaluate_tokens(*loaded.model, tokens, length, command.worst, device));
    } catch (const InputError& error) {
      // The first length shows whether the model can be evaluated at all.
      if (all.empty()) throw;
      TextEvaluation refused;
      refused.seq_len = length;
      refused.reason = error.notice().line();
      all.push_back(std::move(refused));
    }
  }
  tell_training_data(command, of_run);
  const auto* tokenizer = text.tokenizer ? text.tokenizer.get() : loaded.tokenizer.get();
  print_all(command, all, tokenizer, text.bytes_per_token);
}

}  // namespace

void add_evaluate(CLI::App& app) {
  auto* command = app.add_subcommand(
      "evaluate",
      "how well a trained model predicts a text: loss, calibration, positions, lengths");
  const auto options = std::make_shared<EvaluateCommand>();
  command->add_option("run", options->run, "folder of a run or of a checkpoint")->required();
  auto* data = command->add_option("--data", options->data,
                                   "text or token file, or folder; of a model that translates, "
                                   "pairs in two columns");
  command
      ->add_flag("--validation", options->validation,
                 "in place of --data: what the run kept of its own data for validation, all of it")
      ->excludes(data);
  command->add_option("--lengths", options->lengths,
                      "tokens of a sequence, in those of training: 1x,2x,4x");
  command->add_option("--worst", options->worst, "passages to show that cost most")
      ->check(integer_from(0, 1000));
  command->add_option("--device", options->device, "cpu or cuda");
  add_threads_option(*command, options->threads);
  add_quantize_option(*command, options->quantize);
  command->add_flag("--json", options->json, "print the result as JSON");
  command->callback([options] {
    require(options->validation || !options->data.empty(), at("--data"),
            "is needed, or {} for what the run kept from training", option("--validation"));
    run_evaluate(*options);
  });
}

}  // namespace x_transformers
