// tokenizer train: a sentencepiece vocabulary of one's own. tokenizer encode: text of any size as
// token files. tokenizer segment: text cut where a model is surprised.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdio>
#include <memory>

#include "apps/x-transformers/arguments.h"
#include "apps/x-transformers/commands.h"
#include "apps/x-transformers/device.h"
#include "apps/x-transformers/stop_signals.h"
#include "x_transformers/core/format.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/data/files.h"
#include "x_transformers/data/token_shards.h"
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
  require(!text.empty(), at(is_file ? command.text_file + ":" : "--text"), "is empty");
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
    require(command->count("--text") + command->count("--text-file") > 0, at("segment"),
            "{} or {} is needed", option("--text"), option("--text-file"));
    run_segment(*options);
  });
}

void add_vocabulary_training(CLI::App& group) {
  auto* command = group.add_subcommand("train", "learn a sentencepiece vocabulary from text");
  const auto options = std::make_shared<SentencePieceTrainingOptions>();
  command->add_option("input", options->input, "text files, or folders of them")->required();
  command->add_option("--out,--output", options->output, "the .model file to write");
  command->add_option("--vocab-size", options->vocab_size, "tokens in the vocabulary")
      ->check(integer_from(1, kMaxVocabulary));
  command->add_option("--model-type", options->model_type, "unigram or bpe")
      ->check(one_of({"unigram", "bpe"}));
  command
      ->add_option("--character-coverage", options->character_coverage,
                   "share of characters with tokens of their own")
      ->check(number_that([](double share) { return share > 0 && share <= 1; },
                          "a share above 0 and up to 1"));
  command->add_option("--byte-fallback", options->byte_fallback, "spell other characters in bytes");
  command->add_option("--whitespace-runs", options->whitespace_runs,
                      "tokens for runs of spaces, tabs and line ends, as in code and tables");
  command->add_option("--max-lines", options->max_lines, "lines to learn from; 0: all")
      ->check(integer_from(0));
  command->add_option("--threads", options->threads, "threads to learn with")
      ->check(integer_from(1, kMaxLearningThreads));
  command->callback([options] {
    require_output("--out", options->output, all_files(options->input));
    spelled(as_flags({"vocab_size"}), [&] { train_sentencepiece(*options); });
    fmt::print("{}: {}\n", options->output, how_many(options->vocab_size, "token"));
  });
}

struct EncodeCommand {
  TokenShardOptions options;
  std::string tokenizer, output;
  int64_t threads = 0;
};

/// How far the encoding is, in place of the line before on a terminal.
class EncodingProgress {
 public:
  ~EncodingProgress() { end_line(); }

  void operator()(const TokenShardProgress& progress) {
    const auto share = progress.all_bytes > 0 ? static_cast<double>(progress.bytes) /
                                                    static_cast<double>(progress.all_bytes)
                                              : 0.0;
    const auto line = fmt::format(
        "{:3.0f} %  {} of {}, {} {} in {} {}, whole files: {}", 100 * share,
        format_bytes(progress.bytes), format_bytes(progress.all_bytes),
        format_count(progress.tokens), noun_of(progress.tokens, "token"),
        format_count(progress.documents), noun_of(progress.documents, "document"), progress.shards);
    if (isatty(STDERR_FILENO) == 1) {
      std::fprintf(stderr, "\r%s\033[K", line.c_str());
      is_open_ = true;
    } else if (100 * share >= next_) {
      std::fprintf(stderr, "%s\n", line.c_str());
      next_ = 10 * (std::floor(10 * share) + 1);
    }
  }
  void end_line() {
    if (is_open_) std::fputc('\n', stderr);
    is_open_ = false;
  }

 private:
  bool is_open_ = false;
  double next_ = 10;  // per cent, where each line stays
};

void run_encode(EncodeCommand& command) {
  require(!command.output.empty(), at("--out"), "is needed, the folder of the token files");
  use_most_threads(command.threads);
  command.options.output = command.output;
  const auto as_given = spelled_by([](const OptionPath& path) {
    return !path.empty() && path.front() == "tokenizer:" ? path.with_front("--tokenizer:") : path;
  });
  const auto tokenizer = spelled(as_given, [&] { return make_tokenizer(command.tokenizer); });
  const StopSignals signals;
  EncodingProgress shown;
  const auto done = write_token_shards(command.options, *tokenizer,
                                       {[&](const auto& progress) { shown(progress); },
                                        [] { return StopSignals::received() != 0; }});
  shown.end_line();
  fmt::print("{}: {} of {} in {}{}\n", command.output, how_many(done.tokens, "token"),
             how_many(done.documents, "document"), how_many(done.shards, "file"),
             done.is_complete ? "" : "; stopped: the same command goes on");
}

void add_encode(CLI::App& group) {
  auto* command = group.add_subcommand(
      "encode",
      "text or JSONL of any size as token files, by all processors; the same command "
      "goes on where it was stopped");
  const auto options = std::make_shared<EncodeCommand>();
  auto& shards = options->options;
  command
      ->add_option("input", shards.input,
                   "text files (each a document), .jsonl files (each line one), or folders of them")
      ->required();
  command->add_option("--out", options->output, "folder of the token files, for data.path");
  command->add_option("--tokenizer", options->tokenizer, "bytes or a sentencepiece .model file")
      ->required();
  command->add_option("--text-key", shards.text_key, "key of the text in a line of JSONL");
  command->add_option_function<int64_t>(
      "--separator", [options](const int64_t& token) { options->options.separator = token; },
      "token that ends each document (data.separator); default: the vocabulary's own, if any");
  command
      ->add_option("--shard-tokens", shards.shard_tokens,
                   "tokens of a file; its last document is whole")
      ->check(integer_from(1));
  add_threads_option(*command, options->threads);
  command->callback([options] {
    spelled(as_flags({"separator", "text_key", "input"}), [&] { run_encode(*options); });
  });
}

}  // namespace

void add_tokenizer(CLI::App& app) {
  auto* group = app.add_subcommand("tokenizer", "vocabularies");
  group->require_subcommand(1);
  add_vocabulary_training(*group);
  add_encode(*group);
  add_segment(*group);
}

}  // namespace x_transformers
