#include <fmt/format.h>
#include <sentencepiece_trainer.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <unordered_map>

#include "x_transformers/core/cause.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/utf8.h"
#include "x_transformers/data/file_kind.h"
#include "x_transformers/data/files.h"
#include "x_transformers/data/tokenizer.h"
#include "x_transformers/data/vocabulary_limits.h"
#include "x_transformers/io/atomic_file.h"

namespace x_transformers {
namespace {

// sentencepiece passes over longer lines (4192 bytes); ours are cut.
constexpr size_t kLongestLine = 4096;

/// Calls `take(line)` for every line of `text` that is not empty, long ones cut between words or
/// characters.
template <class Take>
void for_each_line(std::string_view text, Take take) {
  while (!text.empty()) {
    size_t length = std::min(text.find('\n'), text.size());
    const bool ends = length <= kLongestLine;
    if (!ends) {
      length = text.rfind(' ', kLongestLine);
      if (length == std::string_view::npos || length == 0) {
        length = kLongestLine;
        while ((static_cast<unsigned char>(text[length]) & 0xC0) == 0x80) --length;
      }
    }
    if (length > 0) take(text.substr(0, length));
    text.remove_prefix(ends ? std::min(length + 1, text.size()) : length);
  }
}

/// Gives sentencepiece the lines one by one.
class Lines : public sentencepiece::SentenceIterator {
 public:
  explicit Lines(const std::vector<std::string_view>& lines) : lines_(lines) { load(); }
  bool done() const override { return next_ > lines_.size(); }
  void Next() override { load(); }
  const std::string& value() const override { return line_; }
  sentencepiece::util::Status status() const override { return {}; }

 private:
  void load() {
    if (next_ < lines_.size()) line_ = std::string(lines_[next_]);
    ++next_;
  }

  const std::vector<std::string_view>& lines_;
  size_t next_ = 0;
  std::string line_;
};

std::vector<FileContents> open_inputs(const std::vector<std::string>& inputs) {
  std::vector<FileContents> files;
  for (const auto& input : inputs) {
    for (const auto& path : list_files(input)) {
      files.push_back(open_file(path));
      require_text(files.back());
      const auto wrong = find_invalid_utf8(files.back().bytes);
      require(!wrong, at(path + ":"), "is not valid UTF-8 at byte {}", wrong.value_or(0));
    }
  }
  return files;
}

/// All lines, or about `max_lines` of them, spread evenly.
std::vector<std::string_view> choose_lines(const std::vector<FileContents>& files,
                                           int64_t max_lines) {
  std::vector<std::string_view> lines;
  for (const auto& file : files) {
    for_each_line(file.bytes, [&](std::string_view line) { lines.push_back(line); });
  }
  const auto limit = static_cast<size_t>(max_lines);
  if (max_lines == 0 || lines.size() <= limit) return lines;
  for (size_t i = 0; i < limit; ++i) {
    lines[i] = lines[static_cast<size_t>(
        static_cast<double>(i) * static_cast<double>(lines.size()) / static_cast<double>(limit))];
  }
  lines.resize(limit);
  return lines;
}

/// The runs of `unit`, a line end or a tab, that are worth a token, separated by commas: the unit
/// itself where it occurs, and longer ones that save enough tokens. sentencepiece never
/// learns any: it reads lines, and leaves tabs for files of its own.
std::string worthy_runs(const std::vector<FileContents>& files, std::string_view unit) {
  constexpr size_t kLongest = 16, kBytesASparedToken = 5000;
  std::array<size_t, kLongest + 1> counts{};  // of runs, by their length
  size_t bytes = 0;
  for (const auto& file : files) {
    const auto text = file.bytes;
    bytes += text.size();
    for (size_t at = text.find(unit); at != std::string_view::npos; at = text.find(unit, at)) {
      size_t length = 0;
      for (; text.substr(at).starts_with(unit); at += unit.size()) ++length;
      ++counts[std::min(length, kLongest)];
    }
  }
  const bool occurs = std::any_of(counts.begin(), counts.end(), [](size_t n) { return n > 0; });
  std::string runs, run;
  for (size_t length = 1; length <= kLongest && occurs; ++length) {
    run += unit;
    const bool is_worthy =
        length == 1 || counts[length] * (length - 1) * kBytesASparedToken >= bytes;
    if (is_worthy) runs += (runs.empty() ? "" : ",") + run;
  }
  return runs;
}

/// All runs of line ends and tabs that are worth a token.
std::string whitespace_symbols(const std::vector<FileContents>& files) {
  std::string symbols;
  for (const std::string_view unit : {"\n", "\r\n", "\t"}) {
    const auto runs = worthy_runs(files, unit);
    if (!runs.empty()) symbols += (symbols.empty() ? "" : ",") + runs;
  }
  return symbols;
}

void validate(const SentencePieceTrainingOptions& options) {
  require(!options.input.empty(), "tokenizer train: no input file given");
  require(!options.output.empty(), "tokenizer train: no output file given");
  expect(options.model_type == "unigram" || options.model_type == "bpe", at("model_type"),
         options.model_type, "unigram or bpe");
  expect(options.vocab_size >= 1 && options.vocab_size <= kMaxVocabulary, at("vocab_size"),
         options.vocab_size, "1 to {}", kMaxVocabulary);
  expect(!options.byte_fallback || options.vocab_size > 259, at("vocab_size"), options.vocab_size,
         "more than 259 (256 bytes and 3 control tokens)");
  expect(options.character_coverage > 0 && options.character_coverage <= 1,
         at("character_coverage"), options.character_coverage, "a share above 0 and up to 1");
  expect(options.max_lines >= 0, at("max_lines"), options.max_lines, "0 or more");
  expect(options.threads >= 1 && options.threads <= kMaxLearningThreads, at("threads"),
         options.threads, "1 to {}", kMaxLearningThreads);
}

}  // namespace

void train_sentencepiece(const SentencePieceTrainingOptions& options) {
  validate(options);
  const auto files = open_inputs(options.input);
  const auto lines = choose_lines(files, options.max_lines);
  require(!lines.empty(),
          fmt::format("{} holds no text to learn a vocabulary from", options.input[0]));
  std::unordered_map<std::string, std::string> settings = {
      {"model_type", options.model_type},
      {"vocab_size", std::to_string(options.vocab_size)},
      {"character_coverage", fmt::format("{}", options.character_coverage)},
      {"byte_fallback", options.byte_fallback ? "true" : "false"},
      {"num_threads", std::to_string(options.threads)},
      // Keeps every character as it is, so that decoding gives back the text.
      {"normalization_rule_name", "identity"},
      {"remove_extra_whitespaces", "false"},
      {"add_dummy_prefix", "false"},
      {"minloglevel", "2"},
  };
  if (options.whitespace_runs) {
    settings["allow_whitespace_only_pieces"] = "true";
    const auto symbols = whitespace_symbols(files);
    if (!symbols.empty()) settings["user_defined_symbols"] = symbols;
  }
  Lines iterator(lines);
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(settings, &iterator, &model);
  if (!status.ok()) {
    auto notice =
        caused(at(options.input[0] + ":"), text("{} tokens cannot be learned", options.vocab_size),
               cause_of_status(status.message()));
    notice.hint = text("{} is their number", option("vocab_size"));
    throw InputError(std::move(notice));
  }
  write_file_atomically(options.output, model);
}

}  // namespace x_transformers
