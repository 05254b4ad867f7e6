// tokenizer train: a sentencepiece vocabulary of one's own.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "apps/x-transformers/arguments.h"
#include "apps/x-transformers/commands.h"
#include "x_transformers/data/files.h"
#include "x_transformers/data/tokenizer.h"

namespace x_transformers {

namespace {

constexpr int64_t kLargestVocabulary = int64_t{1} << 24, kMostLearningThreads = 128;

std::vector<std::string> all_files(const std::vector<std::string>& inputs) {
  std::vector<std::string> files;
  for (const auto& input : inputs)
    for (auto& file : list_files(input)) files.push_back(std::move(file));
  return files;
}

}  // namespace

void add_tokenizer(CLI::App& app) {
  auto* group = app.add_subcommand("tokenizer", "vocabularies");
  group->require_subcommand(1);
  auto* command = group->add_subcommand("train", "learn a sentencepiece vocabulary from text");
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

}  // namespace x_transformers
