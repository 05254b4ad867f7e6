#include "x_transformers/data/token_data.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <numeric>
#include <string_view>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/core/format.h"
#include "x_transformers/data/data_format.h"
#include "x_transformers/data/file_kind.h"
#include "x_transformers/data/files.h"
#include "x_transformers/data/lost_text.h"
#include "x_transformers/data/token_cache.h"
#include "x_transformers/data/token_file.h"
#include "x_transformers/io/file_contents.h"

namespace x_transformers {
namespace {

TokenSegment open_bytes(const std::string& path, const std::string& format) {
  const auto file = open_file(path);
  if (format != "bytes")
    require_text(file, text("{}=bytes trains on its bytes as they are",
                            option(OptionPath("data") / "format")));
  return {file.owner, file.bytes.data(), static_cast<int64_t>(file.bytes.size()), c10::kByte, path};
}

TokenSegment open_tokens(const std::string& path, const TokenFileOptions& options) {
  const auto file = open_file(path);
  const auto tokens = read_token_file(file, options);
  return {file.owner, tokens.data, tokens.size, tokens.dtype, path};
}

/// Whether a file name has the word val or validation in it, as in val.bin and
/// fineweb_val_000000.bin.
bool is_validation_file(const std::string& path) {
  const auto name = std::filesystem::path(path).stem().string();
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find_first_of("_-.", begin), name.size());
    const auto word = std::string_view(name).substr(begin, end - begin);
    if (word == "val" || word == "validation") return true;
    begin = end + 1;
  }
  return false;
}

/// The files behind one path, and whether they hold tokens.
struct Source {
  std::string path;
  std::vector<std::string> files;
  bool tokens = false;
};

/// Throws InputError where a folder has its tokens in files of two kinds: mostly the same tokens
/// twice, and else of types that .bin files do not say.
void require_one_kind(const std::string& folder, const std::vector<std::string>& files) {
  const auto is_array = [](const std::string& file) { return file.ends_with(".npy"); };
  const auto array = std::find_if(files.begin(), files.end(), is_array);
  const auto other = std::find_if_not(files.begin(), files.end(), is_array);
  if (array == files.end() || other == files.end()) return;
  const auto arrays = std::count_if(files.begin(), files.end(), is_array);
  const auto name = [](const std::string& file) {
    return std::filesystem::path(file).filename().string();
  };
  Notice notice{
      at(folder + ":"),
      text("the folder holds {} .npy and {} .bin files ({}, {}), expected one kind", arrays,
           static_cast<int64_t>(files.size()) - arrays, name(*array), name(*other))};
  notice.hint = "the same tokens may be in both; move one kind to a folder of its own";
  throw InputError(std::move(notice));
}

Source find_source(const std::string& path, DataContent content) {
  Source source{path, list_files(path), content == DataContent::tokens};
  const bool folder = std::filesystem::is_directory(path);
  if (content == DataContent::text_or_tokens) {
    source.tokens = std::any_of(source.files.begin(), source.files.end(), is_token_file);
  }
  if (source.tokens && folder) {
    std::erase_if(source.files, [](const auto& file) { return !is_token_file(file); });
    require(!source.files.empty(), at(path + ":"), "the folder holds no .bin or .npy files");
    require_one_kind(path, source.files);
  }
  return source;
}

/// What files become tokens with.
struct Reading {
  const DataOptions& options;
  const Tokenizer& tokenizer;
  int64_t num_tokens;
  const std::filesystem::path& token_folder;
};

std::vector<TokenSegment> open_segments(const Source& source, const Reading& reading) {
  const bool bytes = reading.tokenizer.name() == "bytes";
  if (!source.tokens && !bytes)
    return encode_files(source.files, reading.tokenizer, reading.token_folder);
  const TokenFileOptions options{reading.options.dtype, reading.num_tokens};
  std::vector<TokenSegment> segments;
  for (const auto& file : source.files) {
    segments.push_back(source.tokens ? open_tokens(file, options)
                                     : open_bytes(file, reading.options.format));
  }
  return segments;
}

TokenDataset open_dataset(const Source& source, const Reading& reading) {
  TokenDataset dataset(open_segments(source, reading), reading.num_tokens);
  const auto& what = source.files.size() == 1 ? source.files[0] : source.path;
  require(dataset.size() > 0, at(what + ":"), "is empty, expected text or tokens");
  return dataset;
}

void require_length(const TokenDataset& dataset, const std::string& what, int64_t seq_len,
                    const Text& advice) {
  require(dataset.size() > seq_len, About{}, "{} has {}; sequences of {} {} need at least {}{}",
          what, how_many(dataset.size(), "token"), option(OptionPath("data") / "seq_len"), seq_len,
          seq_len + 1, advice);
}

/// What lets a short text be trained on.
Text more_text() {
  return text("; give more text or a shorter {}", option(OptionPath("data") / "seq_len"));
}

/// Bytes of text that a token of `dataset` stands for on average.
double mean_bytes(const TokenDataset& dataset, const Tokenizer& tokenizer) {
  if (tokenizer.name() == "bytes") return 1;
  std::vector<int64_t> lengths(static_cast<size_t>(tokenizer.vocab_size()));
  for (size_t i = 0; i < lengths.size(); ++i) {
    lengths[i] = static_cast<int64_t>(tokenizer.token_bytes(static_cast<int64_t>(i)).size());
  }
  // Beyond some millions of tokens the mean no longer moves.
  const int64_t count = std::min(dataset.size(), int64_t{1} << 24);
  constexpr int64_t kAtOnce = int64_t{1} << 15;
  std::vector<int64_t> tokens(static_cast<size_t>(std::min(count, kAtOnce)));
  const auto vocab_size = tokenizer.vocab_size();
  int64_t bytes = 0;
  for (int64_t begin = 0; begin < count; begin += kAtOnce) {
    const auto part = std::min(kAtOnce, count - begin);
    dataset.read(begin, part, tokens.data());
    for (int64_t i = 0; i < part; ++i) {
      const int64_t token = tokens[static_cast<size_t>(i)];
      if (token >= vocab_size) {  // a message for each token would cost seconds
        expect(false, at(OptionPath("data") / "tokenizer"), Words{how_many(vocab_size, "token")},
               "a vocabulary with token {} of the data", token);
      }
      bytes += lengths[static_cast<size_t>(token)];
    }
  }
  return static_cast<double>(bytes) / static_cast<double>(count);
}

/// Throws InputError where the model has not all of the vocabulary's tokens.
void require_room(const Tokenizer& tokenizer, const DataOptions& options, int64_t num_tokens) {
  const auto needed = tokenizer.vocab_size();
  if (needed <= num_tokens) return;
  Notice notice{at(OptionPath("data") / "tokenizer"),
                text("{} has {} tokens, more than the model's {} = {}", options.tokenizer, needed,
                     option("num_tokens"), num_tokens)};
  notice.hint = text("{}={} takes them", option("num_tokens"), needed);
  throw InputError(std::move(notice));
}

/// The files of a source of text; of tokens none.
std::vector<FileContents> text_files(const Source& source) {
  std::vector<FileContents> files;
  if (source.tokens) return files;
  files.reserve(source.files.size());
  for (const auto& file : source.files) files.push_back(open_file(file));
  return files;
}

/// What the tokenizer of a text loses of it.
std::optional<Notice> notice_of_lost_text(const std::vector<FileContents>& files,
                                          const Tokenizer& tokenizer) {
  if (files.empty() || tokenizer.name() == "bytes") return std::nullopt;
  return notice_of(lost_of_sample(files, tokenizer));
}

/// What is in a text that its readers rarely want to be learned: a byte order mark, or the line
/// ends of Windows. Looked for at the beginning of each file.
std::optional<Notice> notice_of_marks(const std::vector<FileContents>& files) {
  constexpr std::string_view kMark = "\xef\xbb\xbf", kLineEnd = "\r\n";
  constexpr size_t kLookedAt = size_t{1} << 16;
  const char* found = nullptr;
  std::string first;
  int64_t count = 0;
  for (const auto& file : files) {
    const auto begin = file.bytes.substr(0, kLookedAt);
    const bool has_mark = begin.starts_with(kMark);
    if (!has_mark && begin.find(kLineEnd) == std::string_view::npos) continue;
    if (count++ > 0) continue;
    first = file.path;
    found = has_mark ? "begins with a byte order mark (UTF-8), which is learned as text"
                     : "has line ends of Windows (CR LF), which are learned as text";
  }
  if (count == 0) return std::nullopt;
  Notice notice{
      at(first + ":"),
      count == 1 ? Text(found) : text("{}; {} files have such marks or line ends", found, count)};
  notice.hint = "dos2unix takes both out";
  return notice;
}

/// How a file is told from plain text by its ending, and what else may be done with it.
struct OtherText {
  std::vector<std::string> endings;
  const char* with;
  Text hint;
};

const std::vector<OtherText>& other_texts() {
  static const auto format = option(OptionPath("data") / "format");
  static const auto meant = text("{}=text says that this is meant", format);
  static const std::vector<OtherText> kinds{
      {{".jsonl", ".ndjson"},
       "JSON's names and braces",
       text("x-transformers tokenizer encode makes token files of its texts; ") + meant +
           text("; {}=preferences reads prompt, chosen and rejected", format)},
      {{".json"},
       "JSON's names and braces",
       text("x-transformers tokenizer encode makes token files of files with a line of JSON for "
            "each text; ") +
           meant},
      {{".csv", ".tsv"},
       "its columns and what separates them",
       text("{}=series reads columns of numbers; ", format) + meant},
  };
  return kinds;
}

/// Says of JSON and of tables that they are read as they stand, where data.format does not say so.
std::optional<Notice> notice_of_other_text(const Source& source, const DataOptions& options) {
  if (source.tokens || options.format != "auto") return std::nullopt;
  for (const auto& kind : other_texts()) {
    for (const auto& file : source.files) {
      const bool is_one = std::any_of(kind.endings.begin(), kind.endings.end(),
                                      [&](const auto& ending) { return file.ends_with(ending); });
      if (!is_one) continue;
      Notice notice{at(file + ":"), text("is read as text as it stands, with {}", kind.with)};
      notice.hint = kind.hint;
      return notice;
    }
  }
  return std::nullopt;
}

/// Moves the validation files of `source` into a source of their own, where there are some.
std::optional<Source> take_validation_files(Source& source) {
  if (!source.tokens || source.files.size() == 1) return std::nullopt;
  const auto first =
      std::stable_partition(source.files.begin(), source.files.end(),
                            [](const auto& file) { return !is_validation_file(file); });
  if (first == source.files.begin() || first == source.files.end()) return std::nullopt;
  Source validation{source.path, {first, source.files.end()}, true};
  source.files.erase(first, source.files.end());
  return validation;
}

}  // namespace

TokenData open_data(const DataOptions& options, int64_t num_tokens,
                    const std::filesystem::path& token_folder) {
  validate(options);
  require(options.seq_len.has_value(), at(OptionPath("data") / "seq_len"),
          "expected a length, got nothing");
  expect(num_tokens >= 1, at("num_tokens"), num_tokens, "1 or more");
  const auto tokenizer = make_tokenizer(options.tokenizer);
  const bool bytes = tokenizer->name() == "bytes";
  const auto content = format_of(options).content;
  auto source = find_source(options.path, content);
  if (!bytes && !source.tokens) require_room(*tokenizer, options, num_tokens);
  std::optional<Source> validation_source;
  if (!options.val_path.empty()) {
    validation_source = find_source(options.val_path, content);
  } else {
    validation_source = take_validation_files(source);
  }
  const Reading reading{options, *tokenizer, num_tokens, token_folder};
  auto train = open_dataset(source, reading);
  std::optional<TokenDataset> validation;
  std::string where = options.path;
  if (validation_source) {
    require(validation_source->tokens == source.tokens, at("data"),
            "{} holds {} and {} holds {}, expected both alike", options.path,
            source.tokens ? "tokens" : "text", options.val_path, source.tokens ? "text" : "tokens");
    validation = open_dataset(*validation_source, reading);
    where = validation_source->path;
  } else if (options.val_fraction > 0) {
    const int64_t all = train.size();
    const auto kept = all - static_cast<int64_t>(static_cast<double>(all) * options.val_fraction);
    require_length(train, options.path, *options.seq_len, more_text());
    validation = train.slice(kept, all);
    train = train.slice(0, kept);
    where += fmt::format(" (the last part, {} of all)", options.val_fraction);
  }
  const bool split = validation && !validation_source;
  require_length(train, options.path + (split ? " without its validation part" : ""),
                 *options.seq_len, more_text());
  if (validation) {
    require_length(
        *validation, "validation data " + where, *options.seq_len,
        text("; give more text, a shorter {} or {} 0", option(OptionPath("data") / "seq_len"),
             option(OptionPath("data") / "val_fraction")));
  }
  TokenData data{
      std::move(train), std::move(validation), source.tokens && bytes ? nullptr : tokenizer, {}};
  if (auto lines = notice_of_other_text(source, options)) data.warnings.push_back(*lines);
  const auto files = text_files(source);
  if (options.format != "bytes") {
    if (auto marks = notice_of_marks(files)) data.warnings.push_back(*marks);
  }
  if (auto lost = notice_of_lost_text(files, *tokenizer)) data.warnings.push_back(*lost);
  if (data.tokenizer) {
    data.bytes_per_token = mean_bytes(data.validation.value_or(data.train), *tokenizer);
  }
  return data;
}

}  // namespace x_transformers
