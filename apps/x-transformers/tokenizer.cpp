// tokenizer train: a sentencepiece vocabulary of one's own.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "apps/x-transformers/commands.h"
#include "x_transformers/train/tokenizer.h"

namespace x_transformers {

void add_tokenizer(CLI::App& app) {
  auto* group = app.add_subcommand("tokenizer", "vocabularies");
  group->require_subcommand(1);
  auto* command = group->add_subcommand("train", "learn a sentencepiece vocabulary from text");
  const auto options = std::make_shared<SentencePieceTrainingOptions>();
  command->add_option("input", options->input, "text files, or folders of them")->required();
  command->add_option("--output", options->output, "the .model file to write");
  command->add_option("--vocab-size", options->vocab_size, "tokens in the vocabulary");
  command->add_option("--model-type", options->model_type, "unigram or bpe");
  command->add_option("--character-coverage", options->character_coverage,
                      "share of characters with tokens of their own");
  command->add_option("--byte-fallback", options->byte_fallback, "spell other characters in bytes");
  command->add_option("--max-lines", options->max_lines, "lines to learn from; 0: all");
  command->add_option("--threads", options->threads, "threads to learn with");
  command->callback([options] {
    train_sentencepiece(*options);
    fmt::print("{}: {} tokens\n", options->output, options->vocab_size);
  });
}

}  // namespace x_transformers
