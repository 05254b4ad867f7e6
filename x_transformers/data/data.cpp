#include "x_transformers/data/data.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <numeric>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/data/files.h"
#include "x_transformers/data/random.h"
#include "x_transformers/data/token_cache.h"

namespace x_transformers {
namespace {

constexpr int64_t kSearchedAtOnce = int64_t{64} << 20;  // bytes

/// Calls `use` with the tokens of a segment as a pointer to their type.
template <class Use>
auto with_tokens(const TokenSegment& segment, Use use) {
  switch (segment.bytes_per_token) {
    case 1:
      return use(static_cast<const uint8_t*>(segment.data));
    case 2:
      return use(static_cast<const uint16_t*>(segment.data));
    default:
      return use(static_cast<const uint32_t*>(segment.data));
  }
}

/// The first of tokens [begin, end) that is not below `vocab_size`, or `end`.
int64_t find_outside(const TokenSegment& segment, int64_t begin, int64_t end, int64_t vocab_size) {
  return with_tokens(segment, [&](const auto* tokens) {
    return std::find_if(tokens + begin, tokens + end,
                        [&](int64_t token) { return token >= vocab_size; }) -
           tokens;
  });
}

[[noreturn]] void fail_outside(const TokenSegment& segment, int64_t position, int64_t vocab_size) {
  const auto token =
      with_tokens(segment, [&](const auto* tokens) { return int64_t{tokens[position]}; });
  throw InputError(
      fmt::format("{}: token {} at position {} is not in the vocabulary (num_tokens is {})",
                  segment.file, token, position, vocab_size));
}

TokenSegment open_bytes(const std::string& path) {
  const auto file = open_file(path);
  return {file.owner, file.bytes.data(), static_cast<int64_t>(file.bytes.size()), 1, path};
}

TokenSegment open_tokens(const std::string& path) {
  const auto file = open_file(path);
  const auto tokens = read_token_file(file);
  return {file.owner, tokens.data, tokens.size, tokens.bytes_per_token, path};
}

bool is_token_file(const std::string& path) {
  return std::filesystem::path(path).extension() == ".bin";
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

Source find_source(const std::string& path, const std::string& format) {
  Source source{path, list_files(path), format == "bin"};
  const bool folder = std::filesystem::is_directory(path);
  if (format == "auto") {
    source.tokens = std::any_of(source.files.begin(), source.files.end(), is_token_file);
  }
  if (source.tokens && folder) {
    std::erase_if(source.files, [](const auto& file) { return !is_token_file(file); });
    require(!source.files.empty(), "folder " + path + " holds no .bin files");
  }
  return source;
}

std::vector<TokenSegment> open_segments(const Source& source, const Tokenizer& tokenizer,
                                        const std::filesystem::path& token_folder) {
  const bool bytes = tokenizer.name() == "bytes";
  if (!source.tokens && !bytes) return encode_files(source.files, tokenizer, token_folder);
  std::vector<TokenSegment> segments;
  for (const auto& file : source.files) {
    segments.push_back(source.tokens ? open_tokens(file) : open_bytes(file));
  }
  return segments;
}

TokenDataset as_dataset(std::vector<TokenSegment> segments, const Source& source,
                        int64_t num_tokens) {
  TokenDataset dataset(std::move(segments), num_tokens);
  const auto& what = source.files.size() == 1 ? source.files[0] : "folder " + source.path;
  require(dataset.size() > 0, what + " is empty: expected text or tokens to train on");
  return dataset;
}

void require_length(const TokenDataset& dataset, const std::string& what, int64_t seq_len,
                    const std::string& advice) {
  require(dataset.size() > seq_len,
          fmt::format("{} has {} tokens; sequences of seq_len {} need at least {}{}", what,
                      dataset.size(), seq_len, seq_len + 1, advice));
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
  std::vector<int64_t> tokens(static_cast<size_t>(count));
  dataset.read(0, count, tokens.data());
  int64_t bytes = 0;
  for (const int64_t token : tokens) {
    require(token < tokenizer.vocab_size(),
            fmt::format("token {} of the data is not in the tokenizer's vocabulary of {}", token,
                        tokenizer.vocab_size()));
    bytes += lengths[static_cast<size_t>(token)];
  }
  return static_cast<double>(bytes) / static_cast<double>(count);
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

void validate(const DataOptions& options) {
  const auto at_least = [](const char* name, int64_t least, int64_t value) {
    require(value >= least,
            fmt::format("data.{}: expected {} or more, got {}", name, least, value));
  };
  require(!options.path.empty(), "data.path: expected a file or a folder to train on, got nothing");
  const auto& format = options.format;
  require(format == "auto" || format == "text" || format == "bin",
          "data.format: expected auto, text or bin, got '" + format + "'");
  require(options.order == "random" || options.order == "epoch",
          "data.order: expected random or epoch, got '" + options.order + "'");
  require(options.val_fraction >= 0 && options.val_fraction < 1,
          fmt::format("data.val_fraction: expected 0 or more and below 1, got {}",
                      options.val_fraction));
  at_least("val_batches", 0, options.val_batches);
  at_least("batch_size", 1, options.batch_size);
  if (options.seq_len) at_least("seq_len", 1, *options.seq_len);
}

struct TokenDataset::Storage {
  std::vector<TokenSegment> segments;
  std::vector<int64_t> starts;  // of each segment, and the end
  std::vector<bool> searched;   // no token of the segment is outside the vocabulary
  int64_t vocab_size = 0;
};

TokenDataset::TokenDataset(std::vector<TokenSegment> segments, int64_t vocab_size) {
  auto storage = std::make_shared<Storage>();
  storage->vocab_size = vocab_size;
  storage->starts = {0};
  for (const auto& segment : segments) {
    const bool always_inside = vocab_size >> (8 * segment.bytes_per_token) > 0;
    const bool search = !always_inside && segment.size * segment.bytes_per_token < kSearchedAtOnce;
    if (search) {
      const int64_t at = find_outside(segment, 0, segment.size, vocab_size);
      if (at < segment.size) fail_outside(segment, at, vocab_size);
    }
    storage->searched.push_back(always_inside || search);
    storage->starts.push_back(storage->starts.back() + segment.size);
  }
  storage->segments = std::move(segments);
  end_ = storage->starts.back();
  storage_ = std::move(storage);
}

void TokenDataset::read(int64_t offset, int64_t count, int64_t* out) const {
  require(offset >= 0 && count >= 0 && count <= size() - offset,
          fmt::format("tokens {} to {} asked for, there are {}", offset, offset + count, size()));
  const auto& starts = storage_->starts;
  int64_t at = begin_ + offset;
  auto index =
      static_cast<size_t>(std::upper_bound(starts.begin(), starts.end(), at) - starts.begin() - 1);
  for (; count > 0; ++index) {
    const auto& segment = storage_->segments[index];
    const int64_t begin = at - starts[index];
    const int64_t end = std::min(begin + count, segment.size);
    if (!storage_->searched[index]) {
      const int64_t outside = find_outside(segment, begin, end, storage_->vocab_size);
      if (outside < end) fail_outside(segment, outside, storage_->vocab_size);
    }
    out = with_tokens(
        segment, [&](const auto* tokens) { return std::copy(tokens + begin, tokens + end, out); });
    at += end - begin;
    count -= end - begin;
  }
}

at::Tensor TokenDataset::read(int64_t offset, int64_t count) const {
  auto tokens = at::empty({std::max(count, int64_t{0})}, at::kLong);
  read(offset, count, tokens.mutable_data_ptr<int64_t>());
  return tokens;
}

TokenDataset TokenDataset::slice(int64_t begin, int64_t end) const {
  require(0 <= begin && begin <= end && end <= size(),
          fmt::format("tokens {} to {} asked for, there are {}", begin, end, size()));
  TokenDataset part = *this;
  part.begin_ = begin_ + begin;
  part.end_ = begin_ + end;
  return part;
}

uint64_t TokenDataset::fingerprint() const {
  constexpr int64_t kPlaces = 256, kRun = 64;
  uint64_t hash = mix_bits(static_cast<uint64_t>(size()));
  int64_t tokens[kRun];
  for (int64_t place = 0; place < kPlaces; ++place) {
    const auto begin =
        static_cast<int64_t>(static_cast<double>(size()) * (static_cast<double>(place) / kPlaces));
    const int64_t count = std::min(kRun, size() - begin);
    read(begin, count, tokens);
    for (int64_t i = 0; i < count; ++i) hash = mix_bits(hash ^ static_cast<uint64_t>(tokens[i]));
  }
  return hash;
}

Data open_data(const DataOptions& options, int64_t num_tokens,
               const std::filesystem::path& token_folder) {
  validate(options);
  require(options.seq_len.has_value(), "data.seq_len: expected a length, got nothing");
  require(num_tokens >= 1, fmt::format("num_tokens: expected 1 or more, got {}", num_tokens));
  const auto tokenizer = make_tokenizer(options.tokenizer);
  const bool bytes = tokenizer->name() == "bytes";
  auto source = find_source(options.path, options.format);
  require(bytes || source.tokens || tokenizer->vocab_size() <= num_tokens,
          fmt::format("tokenizer {} has {} tokens, the model only {} (num_tokens)",
                      options.tokenizer, tokenizer->vocab_size(), num_tokens));
  std::optional<Source> validation_source;
  if (!options.val_path.empty()) {
    validation_source = find_source(options.val_path, options.format);
  } else {
    validation_source = take_validation_files(source);
  }
  auto train = as_dataset(open_segments(source, *tokenizer, token_folder), source, num_tokens);
  std::optional<TokenDataset> validation;
  std::string where = options.path;
  if (validation_source) {
    require(validation_source->tokens == source.tokens,
            fmt::format("data: {} holds {} and {} holds {}, expected both alike", options.path,
                        source.tokens ? "tokens" : "text", options.val_path,
                        source.tokens ? "text" : "tokens"));
    validation = as_dataset(open_segments(*validation_source, *tokenizer, token_folder),
                            *validation_source, num_tokens);
    where = validation_source->path;
  } else if (options.val_fraction > 0) {
    const int64_t all = train.size();
    const auto kept = all - static_cast<int64_t>(static_cast<double>(all) * options.val_fraction);
    require_length(train, options.path, *options.seq_len, "");
    validation = train.slice(kept, all);
    train = train.slice(0, kept);
    where += fmt::format(" (the last part, val_fraction {})", options.val_fraction);
  }
  const bool split = validation && !validation_source;
  require_length(train, options.path + (split ? " without its validation part" : ""),
                 *options.seq_len, "");
  if (validation) {
    require_length(*validation, "validation data " + where, *options.seq_len,
                   "; give more text, a shorter seq_len or val_fraction 0");
  }
  Data data{
      std::move(train), std::move(validation), source.tokens && bytes ? nullptr : tokenizer, {}};
  if (data.tokenizer) {
    data.bytes_per_token = mean_bytes(data.validation.value_or(data.train), *tokenizer);
  }
  return data;
}

}  // namespace x_transformers
