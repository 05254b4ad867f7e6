#include "x_transformers/data/token_shards.h"

#include <ATen/Parallel.h>
#include <c10/core/ScalarType.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <limits>
#include <memory>
#include <string_view>
#include <utility>

#include "x_transformers/core/cause.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/json_options.h"
#include "x_transformers/core/nearest_name.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/data/file_kind.h"
#include "x_transformers/data/files.h"
#include "x_transformers/data/hash.h"
#include "x_transformers/data/token_file.h"
#include "x_transformers/io/atomic_file.h"
#include "x_transformers/io/file_contents.h"

namespace x_transformers {
namespace {

namespace fs = std::filesystem;

constexpr const char* kManifest = "shards.json";
constexpr size_t kTask = size_t{1} << 18;  // bytes of what a thread encodes at once, at least

bool is_jsonl(const std::string& path) {
  return path.ends_with(".jsonl") || path.ends_with(".ndjson");
}

/// Where the next document begins.
struct InputPlace {
  size_t file = 0, byte = 0;
};

struct Document {
  std::string_view bytes;  ///< a text, or a line of JSON
  InputPlace place;
  bool is_json = false;
};

/// Where the document after it begins.
InputPlace after(const Document& document) {
  if (!document.is_json) return {document.place.file + 1, 0};
  return {document.place.file, document.place.byte + document.bytes.size() + 1};
}

/// Documents one after the other. Those of a block stay valid until the next.
class DocumentReader {
 public:
  DocumentReader(const std::vector<std::string>& files, InputPlace place)
      : files_(files), place_(place) {}

  /// The next documents, of `least` bytes or more together; none at the end.
  std::vector<Document> next_block(size_t least) {
    std::vector<Document> block;
    held_.clear();
    if (file_.owner) held_.push_back(file_);
    size_t bytes = 0;
    while (bytes < least && place_.file < files_.size()) {
      open();
      const auto document = next_of_file();
      if (!document) {
        place_ = {place_.file + 1, 0};
        continue;
      }
      place_ = after(*document);
      bytes += document->bytes.size();
      block.push_back(*document);
    }
    return block;
  }

  /// After the documents so far.
  InputPlace place() const { return place_; }

 private:
  void open() {
    const auto& path = files_[place_.file];
    if (file_.path == path) return;
    file_ = open_file(path);
    held_.push_back(file_);
    require_text(file_);
  }

  /// The first document of the file from place_ on; none: there is no further one.
  std::optional<Document> next_of_file() const {
    const auto bytes = file_.bytes;
    if (!is_jsonl(file_.path)) {
      if (bytes.empty()) return std::nullopt;
      return Document{bytes, place_, false};
    }
    for (auto begin = place_.byte; begin < bytes.size();) {
      const auto end = std::min(bytes.find('\n', begin), bytes.size());
      const auto line = bytes.substr(begin, end - begin);
      if (line.find_first_not_of(" \t\r") != std::string_view::npos)
        return Document{line, {place_.file, begin}, true};
      begin = end + 1;
    }
    return std::nullopt;
  }

  const std::vector<std::string>& files_;
  InputPlace place_;
  FileContents file_;
  std::vector<FileContents> held_;  // of the block
};

/// The text of a line of JSON.
std::string text_in(const Document& document, const std::string& key) {
  constexpr std::string_view kMark = "\xef\xbb\xbf";
  auto line = document.bytes;
  if (document.place.byte == 0 && line.starts_with(kMark)) line.remove_prefix(kMark.size());
  const auto value = parse_json(line);
  if (!value.is_object()) detail::wrong_type({}, "an object", value);
  const auto found = value.find(key);
  if (found == value.end()) {
    std::vector<std::string> keys;
    for (const auto& [name, item] : value.items()) keys.push_back(name);
    Notice notice{{}, text("has no '{}'", key)};
    notice.hint = nearest_hint(key, keys);
    throw InputError(std::move(notice));
  }
  if (!found->is_string()) detail::wrong_type(key, "text", *found);
  return found->get<std::string>();
}

/// How documents become numbers of a token file.
struct Encoding {
  const Tokenizer& tokenizer;
  const std::string& text_key;
  const std::vector<std::string>& files;
  std::optional<int64_t> separator;
  c10::ScalarType dtype;  ///< kUInt16 or kUInt32

  size_t token_bytes() const { return c10::elementSize(dtype); }

  /// "FILE: line N:", for messages.
  OptionPath place_of(const Document& document) const {
    const auto& path = files[document.place.file];
    if (!document.is_json) return path + ":";
    const auto file = open_file(path);
    const auto before = file.bytes.substr(0, document.place.byte);
    return fmt::format("{}: line {}:", path, std::count(before.begin(), before.end(), '\n') + 1);
  }
};

/// The tokens of a document as bytes of the file.
std::string encoded(const Document& document, const Encoding& encoding) {
  const auto tokens = [&] {
    if (!document.is_json) return encoding.tokenizer.encode(document.bytes);
    return encoding.tokenizer.encode(text_in(document, encoding.text_key));
  };
  auto found = tokens();
  if (found.empty()) return {};
  if (encoding.separator) found.push_back(*encoding.separator);
  const auto size = encoding.token_bytes();
  std::string bytes(found.size() * size, '\0');
  for (size_t i = 0; i < found.size(); ++i) {
    const auto token = static_cast<uint32_t>(found[i]);  // of little-endian machines, as the file
    std::memcpy(bytes.data() + i * size, &token, size);
  }
  return bytes;
}

/// The same, and an error says where the document stands.
std::string encoded_or_placed(const Document& document, const Encoding& encoding) {
  try {
    return encoded(document, encoding);
  } catch (const InputError& error) {
    throw InputError(below(encoding.place_of(document))(error.notice()));
  } catch (const Json::exception& error) {
    throw InputError(caused(at(encoding.place_of(document)), "is no JSON", cause_of(error)));
  }
}

/// Documents that one thread encodes, one after the other.
std::vector<std::pair<size_t, size_t>> tasks_of(const std::vector<Document>& documents) {
  std::vector<std::pair<size_t, size_t>> tasks;
  for (size_t begin = 0, end = 0; begin < documents.size(); begin = end) {
    size_t bytes = 0;
    while (end < documents.size() && (end == begin || bytes < kTask))
      bytes += documents[end++].bytes.size();
    tasks.emplace_back(begin, end);
  }
  return tasks;
}

/// The tokens of each document. The first that cannot be encoded is reported, whichever thread
/// found it.
std::vector<std::string> encode_block(const std::vector<Document>& documents,
                                      const Encoding& encoding) {
  std::vector<std::string> results(documents.size());
  const auto tasks = tasks_of(documents);
  std::vector<std::exception_ptr> errors(tasks.size());
  at::parallel_for(0, std::ssize(tasks), 1, [&](int64_t begin, int64_t end) {
    for (auto task = static_cast<size_t>(begin); task < static_cast<size_t>(end); ++task) {
      try {
        for (size_t i = tasks[task].first; i < tasks[task].second; ++i)
          results[i] = encoded_or_placed(documents[i], encoding);
      } catch (...) {
        errors[task] = std::current_exception();
      }
    }
  });
  for (const auto& error : errors) {
    if (error) std::rethrow_exception(error);
  }
  return results;
}

/// What the tokens depend on, but for the number of threads.
Json settings_of(const TokenShardOptions& options, const Encoding& encoding) {
  constexpr uint64_t kVersion = 1;  // changes when the same input is encoded differently
  constexpr size_t kLooked = size_t{1} << 16;
  uint64_t hash = mix_bits(kVersion);
  for (const auto& path : encoding.files) {
    // All of the text would take as long as to encode it.
    const auto file = open_file(path);
    const auto bytes = file.bytes;
    hash = hash_bytes(hash, path);
    hash = mix_bits(hash ^ bytes.size());
    hash = hash_bytes(hash, bytes.substr(0, kLooked));
    hash = hash_bytes(hash, bytes.substr(bytes.size() - std::min(kLooked, bytes.size())));
  }
  const auto vocabulary =
      hash_bytes(mix_bits(kVersion), encoding.tokenizer.name() + encoding.tokenizer.serialized());
  return {{"input", fmt::format("{:016x}", hash)},
          {"vocabulary", fmt::format("{:016x}", vocabulary)},
          {"text_key", options.text_key},
          {"separator", encoding.separator ? Json(*encoding.separator) : Json()},
          {"shard_tokens", options.shard_tokens},
          {"dtype", encoding.dtype == c10::kUInt16 ? "uint16" : "uint32"}};
}

/// The folder of token files, and what is known of them.
class ShardFolder {
 public:
  /// Throws InputError where it holds token files of something else.
  ShardFolder(fs::path folder, Json settings)
      : folder_(std::move(folder)), settings_(std::move(settings)) {
    std::error_code error;
    fs::create_directories(folder_, error);
    if (error)
      throw InputError(
          caused(at(folder_.string() + ":"), "cannot make the folder", cause_of(error)));
    fs::exists(folder_ / kManifest, error) ? go_on() : require_empty();
  }

  const TokenShardProgress& progress() const { return progress_; }
  InputPlace place() const { return place_; }

  fs::path next_file() const { return folder_ / fmt::format("tokens_{:06}.bin", progress_.shards); }

  /// Takes note of how far the files that are whole have come.
  void write(const TokenShardProgress& progress, InputPlace next) {
    progress_ = progress;
    const Json done{{"documents", progress.documents},
                    {"tokens", progress.tokens},
                    {"bytes", progress.bytes},
                    {"shards", progress.shards},
                    {"complete", progress.is_complete},
                    {"next_file", next.file},
                    {"next_byte", next.byte}};
    write_file_atomically(folder_ / kManifest,
                          Json{{"settings", settings_}, {"done", done}}.dump(2) + "\n");
  }

 private:
  void require_empty() const {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(folder_, error)) {
      require(!is_token_file(entry.path().string()), at(folder_.string() + ":"),
              "holds token files ({}) that are not of this command: choose another folder",
              entry.path().filename().string());
    }
  }

  void go_on() {
    const auto path = (folder_ / kManifest).string();
    const auto saved = read_json_file(path);
    try {
      for (const auto& [name, value] : settings_.items()) {
        require(saved.at("settings").at(name) == value, at(folder_.string() + ":"),
                "holds token files with another {}: choose another folder, or remove it", name);
      }
      const auto& done = saved.at("done");
      done.at("documents").get_to(progress_.documents);
      done.at("tokens").get_to(progress_.tokens);
      done.at("bytes").get_to(progress_.bytes);
      done.at("shards").get_to(progress_.shards);
      done.at("complete").get_to(progress_.is_complete);
      done.at("next_file").get_to(place_.file);
      done.at("next_byte").get_to(place_.byte);
    } catch (const Json::exception& error) {
      throw InputError(caused(at(path + ":"), "is not of token files", cause_of(error)));
    }
  }

  fs::path folder_;
  Json settings_;
  TokenShardProgress progress_;
  InputPlace place_;
};

/// A token file as it grows.
class Shard {
 public:
  Shard(const fs::path& path, c10::ScalarType dtype) : file_(path), dtype_(dtype) {
    file_.write(header());
  }

  int64_t tokens() const { return tokens_; }

  void add(const std::string& bytes, int64_t tokens) {
    file_.write(bytes);
    tokens_ += tokens;
  }
  void finish() {
    file_.rewrite(0, header());
    file_.commit();
  }

 private:
  std::string header() const {
    const auto numbers = token_file_header(tokens_, dtype_);
    return {reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof numbers[0]};
  }

  AtomicFile file_;
  c10::ScalarType dtype_;
  int64_t tokens_ = 0;
};

class ShardWork {
 public:
  ShardWork(const TokenShardOptions& options, const Encoding& encoding,
            const TokenShardContext& context)
      : options_(options),
        encoding_(encoding),
        context_(context),
        folder_(options.output, settings_of(options, encoding)),
        reader_(encoding.files, folder_.place()),
        progress_(folder_.progress()) {
    for (const auto& path : encoding.files) {
      std::error_code ignored;
      begins_.push_back(progress_.all_bytes);
      progress_.all_bytes += static_cast<int64_t>(fs::file_size(path, ignored));
    }
    begins_.push_back(progress_.all_bytes);
  }

  TokenShardProgress run() {
    if (progress_.is_complete) return progress_;
    const auto next = [this] {
      return reader_.next_block(static_cast<size_t>(context_.block_bytes));
    };
    for (auto block = next(); !block.empty(); block = next()) {
      write(block, encode_block(block, encoding_));
      progress_.bytes = bytes_before(reader_.place());
      if (context_.progress) context_.progress(progress_);
      if (context_.wants_stop && context_.wants_stop()) return whole();
    }
    require(progress_.tokens > 0, at(fmt::format("{}:", fmt::join(options_.input, ", "))),
            "no text, nothing to encode");
    if (shard_) finish_shard(reader_.place());
    progress_.bytes = progress_.all_bytes;
    progress_.is_complete = true;
    folder_.write(progress_, reader_.place());
    return progress_;
  }

 private:
  /// What the whole files hold.
  TokenShardProgress whole() const {
    auto progress = folder_.progress();
    progress.all_bytes = progress_.all_bytes;
    return progress;
  }

  void write(const std::vector<Document>& block, const std::vector<std::string>& encoded) {
    for (size_t i = 0; i < block.size(); ++i) {
      const auto tokens = static_cast<int64_t>(encoded[i].size() / encoding_.token_bytes());
      if (tokens > 0) make_room(tokens, block[i]);
      if (tokens == 0) continue;
      shard_->add(encoded[i], tokens);
      progress_.tokens += tokens;
      ++progress_.documents;
      if (shard_->tokens() >= options_.shard_tokens) finish_shard(after(block[i]));
    }
  }

  /// A file that takes `tokens` more.
  void make_room(int64_t tokens, const Document& document) {
    constexpr int64_t kMax = std::numeric_limits<int32_t>::max();  // that a header can say
    require(tokens <= kMax, at(encoding_.place_of(document)),
            "is a document of {} tokens, expected at most {}", tokens, kMax);
    if (shard_ && shard_->tokens() > kMax - tokens) finish_shard(document.place);
    if (!shard_) shard_ = std::make_unique<Shard>(folder_.next_file(), encoding_.dtype);
  }

  void finish_shard(InputPlace next) {
    shard_->finish();
    shard_.reset();
    ++progress_.shards;
    progress_.bytes = bytes_before(next);
    folder_.write(progress_, next);
  }

  /// Of the input.
  int64_t bytes_before(InputPlace place) const {
    return std::min(begins_.at(place.file) + static_cast<int64_t>(place.byte), progress_.all_bytes);
  }

  const TokenShardOptions& options_;
  const Encoding& encoding_;
  const TokenShardContext& context_;
  ShardFolder folder_;
  DocumentReader reader_;
  TokenShardProgress progress_;
  std::vector<int64_t> begins_;  ///< bytes before each file, and of all of them
  std::unique_ptr<Shard> shard_;
};

}  // namespace

TokenShardProgress write_token_shards(const TokenShardOptions& options, const Tokenizer& tokenizer,
                                      const TokenShardContext& context) {
  constexpr int64_t kNarrow = int64_t{1} << 16, kWide = int64_t{1} << 32;
  const auto separator = options.separator ? options.separator : tokenizer.eos_token();
  expect(separator.value_or(0) >= 0 && separator.value_or(0) < kWide, at("separator"),
         separator.value_or(0), "0 to {}", kWide - 1);
  expect(options.shard_tokens > 0, at("shard_tokens"), options.shard_tokens, "1 or more");
  std::vector<std::string> files;
  for (const auto& input : options.input) {
    for (auto& file : list_files(input)) files.push_back(std::move(file));
  }
  require(!files.empty(), at("input"), "is needed, text or JSONL");
  const bool is_narrow = std::max(tokenizer.vocab_size(), separator.value_or(0) + 1) <= kNarrow;
  const Encoding encoding{tokenizer, options.text_key, files, separator,
                          is_narrow ? c10::kUInt16 : c10::kUInt32};
  return ShardWork(options, encoding, context).run();
}

}  // namespace x_transformers
