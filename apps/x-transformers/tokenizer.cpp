// tokenizer train: a sentencepiece vocabulary of one's own. tokenizer segment: text cut where a
// model is surprised.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdio>
#include <memory>

#include "apps/x-transformers/arguments.h"
#include "apps/x-transformers/commands.h"
#include "apps/x-transformers/device.h"
#include "x_transformers/core/json.h"
#include "x_transformers/data/files.h"
#include "x_transformers/data/tokenizer.h"
#include "x_transformers/data/vocabulary_limits.h"
#include "x_transformers/train/text_segments.h"

namespace x_transformers {

namespace {

std::vector<std::string> all_files(const std::vector<std::string>& inputs) {
  std::vector<std::string> files;
  for (const auto& input : inputs)
    for (auto& file : list_files(input)) files.push_back(std::move(file));
  return files;
}

struct SegmentCommand {
  std::string path, text, text_file, device = "cpu";
  EntropyBasedTokenizerOptions options;
  bool json = false;
};

void run_segment(const SegmentCommand& command) {
  const auto model =
      load_language_model({.path = command.path}, open_device(command.device, "--device"));
  const bool is_file = !command.text_file.empty();
  const auto text = is_file ? read_text(command.text_file) : command.text;
  require(!text.empty(), (is_file ? command.text_file : "--text") + ": is empty");
  const auto segments = segment_text(model, text, command.options);
  if (command.json) {
    // A token may end within a character, which JSON cannot hold: the lengths cut the text itself.
    Json bytes = Json::array();
    for (const auto& segment : segments) bytes.push_back(segment.size());
    fmt::print("{}\n", Json{{"segments", segments}, {"bytes", bytes}}.dump(
                           -1, ' ', false, Json::error_handler_t::replace));
    return;
  }
  std::string line;
  for (const auto& segment : segments) line += (line.empty() ? "" : "|") + segment;
  std::fwrite(line.data(), 1, line.size(), stdout);
  std::fputc('\n', stdout);
}

void add_segment(CLI::App& group) {
  auto* command = group.add_subcommand(
      "segment", "cut a text where a trained model is unsure of what follows (arXiv:2412.09871)");
  const auto options = std::make_shared<SegmentCommand>();
  command
      ->add_option("path", options->path, "folder of a run or checkpoint, best of a model of bytes")
      ->required();
  auto* text = command->add_option("--text", options->text, "the text");
  command->add_option("--text-file", options->text_file, "file with the text")->excludes(text);
  command
      ->add_option("--entropy-threshold", options->options.entropy_threshold,
                   "a token ends where the entropy of what follows is as high, in nats")
      ->required()
      ->check(number_that([](double value) { return std::isfinite(value); }, "a finite number"));
  command
      ->add_option_function<int64_t>(
          "--max-token-size",
          [options](const int64_t& size) { options->options.max_token_size = size; },
          "longer tokens are cut; default: none")
      ->check(integer_from(1));
  command->add_option("--device", options->device, "cpu, cuda or cuda:N");
  command->add_flag("--json", options->json,
                    "the tokens and how many bytes each has, as JSON; else with | between them");
  command->callback([options, command] {
    require(command->count("--text") + command->count("--text-file") > 0,
            "segment: --text or --text-file is needed");
    run_segment(*options);
  });
}

void add_vocabulary_training(CLI::App& group) {
  auto* command = group.add_subcommand("train", "learn a sentencepiece vocabulary from text");
  const auto options = std::make_shared<SentencePieceTrainingOptions>();
  command->add_option("input", options->input, "text files, or folders of them")->required();
  command->add_option("--output", options->output, "the .model file to write");
  command->add_option("--vocab-size", options->vocab_size, "tokens in the vocabulary")
      ->check(integer_from(1, kLargestVocabulary));
  command->add_option("--model-type", options->model_type, "unigram or bpe")
      ->check(CLI::IsMember({"unigram", "bpe"}));
  command
      ->add_option("--character-coverage", options->character_coverage,
                   "share of characters with tokens of their own")
      ->check(number_that([](double share) { return share > 0 && share <= 1; },
                          "a share above 0 and up to 1"));
  command->add_option("--byte-fallback", options->byte_fallback, "spell other characters in bytes");
  command->add_option("--whitespace-runs", options->whitespace_runs,
                      "tokens for runs of blanks, tabs and line ends, as in code and tables");
  command->add_option("--max-lines", options->max_lines, "lines to learn from; 0: all")
      ->check(integer_from(0));
  command->add_option("--threads", options->threads, "threads to learn with")
      ->check(integer_from(1, kMostLearningThreads));
  command->callback([options] {
    require_output("--output", options->output, all_files(options->input));
    train_sentencepiece(*options);
    fmt::print("{}: {} tokens\n", options->output, options->vocab_size);
  });
}

}  // namespace

void add_tokenizer(CLI::App& app) {
  auto* group = app.add_subcommand("tokenizer", "vocabularies");
  group->require_subcommand(1);
  add_vocabulary_training(*group);
  add_segment(*group);
}

}  // namespace x_transformers
