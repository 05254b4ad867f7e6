#include "x_transformers/data/token_cache.h"

#include <c10/core/ScalarType.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <ctime>
#include <fstream>
#include <limits>
#include <memory>
#include <numeric>
#include <optional>
#include <string_view>
#include <system_error>

#include "x_transformers/core/error.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/data/file_kind.h"
#include "x_transformers/data/hash.h"
#include "x_transformers/data/token_file.h"
#include "x_transformers/io/atomic_file.h"
#include "x_transformers/io/file_contents.h"

namespace x_transformers {
namespace {

namespace fs = std::filesystem;

/// What the tokens depend on. `kVersion` changes when the same vocabulary encodes differently.
std::string name_of(const std::vector<FileContents>& texts, const Tokenizer& tokenizer) {
  constexpr uint64_t kVersion = 1;
  uint64_t hash = hash_bytes(mix_bits(kVersion), tokenizer.serialized());
  for (const auto& text : texts) hash = hash_bytes(hash, text.bytes);
  return fmt::format("{:016x}.bin", hash);
}

/// Adds what changes where a file does, without a look into it. Returns whether it would change:
/// soon after a change the clock of the file system may show the same time for another one.
bool add_file_state(uint64_t& hash, const std::string& path) {
  constexpr time_t kSoon = 2;
  struct stat state {};
  if (stat(path.c_str(), &state) != 0) return false;
  hash = hash_bytes(hash, fs::absolute(path).lexically_normal().string());
  for (const auto& time : {state.st_mtim, state.st_ctim}) {
    hash = mix_bits(hash ^ static_cast<uint64_t>(time.tv_sec));
    hash = mix_bits(hash ^ static_cast<uint64_t>(time.tv_nsec));
  }
  hash = mix_bits(hash ^ static_cast<uint64_t>(state.st_size));
  hash = mix_bits(hash ^ static_cast<uint64_t>(state.st_ino));
  return state.st_mtim.tv_sec + kSoon < std::time(nullptr);
}

/// The name of a file that holds the name of the tokens of these files, as long as nobody changes
/// them; empty: that would not be seen.
std::string note_of(const std::vector<std::string>& files, const Tokenizer& tokenizer) {
  constexpr uint64_t kVersion = 1;
  uint64_t hash = hash_bytes(mix_bits(kVersion), tokenizer.serialized());
  for (const auto& file : files) {
    if (!add_file_state(hash, file)) return {};
  }
  return fmt::format("{:016x}.seen", hash);
}

/// The name that a note holds; empty: there is none.
std::string noted(const fs::path& note) {
  std::ifstream file(note);
  std::string name;
  std::getline(file, name);
  return name;
}

void write_note(const fs::path& note, const fs::path& tokens) {
  if (!note.has_filename()) return;
  try {
    write_file_atomically(note, tokens.filename().string() + "\n");
  } catch (const RunError&) {  // the next start looks into the text
  }
}

/// Encoded text as a segment of the given type.
template <class Token>
TokenSegment pack(const std::vector<int64_t>& tokens, c10::ScalarType dtype,
                  const std::string& file) {
  const std::shared_ptr<Token[]> packed(new Token[tokens.size()]);
  std::copy(tokens.begin(), tokens.end(), packed.get());
  return {packed, packed.get(), static_cast<int64_t>(tokens.size()), dtype, file};
}

TokenSegment encode(const FileContents& text, const Tokenizer& tokenizer) {
  const auto tokens = spelled(below(text.path + ":"), [&] { return tokenizer.encode(text.bytes); });
  const bool narrow = tokenizer.vocab_size() <= 1 << 16;
  return narrow ? pack<uint16_t>(tokens, c10::kUInt16, text.path)
                : pack<uint32_t>(tokens, c10::kUInt32, text.path);
}

/// The token file at `path`, if there is one and it is whole.
std::optional<TokenSegment> open_kept(const fs::path& path) {
  std::error_code error;
  if (!fs::is_regular_file(path, error)) return std::nullopt;
  try {
    const auto file = open_file(path.string());
    const auto tokens = read_token_file(file);
    return TokenSegment{file.owner, tokens.data, tokens.size, tokens.dtype, file.path};
  } catch (const InputError&) {
    return std::nullopt;
  }
}

/// Whether the segments now lie in a token file at `path`.
bool keep(const std::vector<TokenSegment>& segments, const fs::path& path) {
  const auto size =
      std::accumulate(segments.begin(), segments.end(), int64_t{0},
                      [](int64_t sum, const auto& segment) { return sum + segment.size; });
  if (size > std::numeric_limits<int32_t>::max()) return false;
  std::error_code error;
  fs::create_directories(path.parent_path(), error);
  if (error) return false;
  try {
    AtomicFile file(path);
    const auto dtype = segments.front().dtype;
    const auto header = token_file_header(size, dtype);
    file.write(header.data(), header.size() * sizeof header[0]);
    for (const auto& segment : segments) {
      file.write(segment.data, static_cast<size_t>(segment.size) * c10::elementSize(dtype));
    }
    file.commit();
  } catch (const RunError&) {  // disk full: the next start encodes again
    return false;
  }
  return true;
}

}  // namespace

std::vector<TokenSegment> encode_files(const std::vector<std::string>& files,
                                       const Tokenizer& tokenizer, const fs::path& folder) {
  const auto note = folder.empty() ? fs::path() : folder / note_of(files, tokenizer);
  if (const auto name = note.has_filename() ? noted(note) : std::string(); !name.empty()) {
    if (auto kept = open_kept(folder / name)) return {std::move(*kept)};
  }
  std::vector<FileContents> texts;
  for (const auto& file : files) {
    texts.push_back(open_file(file));
    require_text(texts.back());
  }
  const auto path = folder.empty() ? fs::path() : folder / name_of(texts, tokenizer);
  if (!folder.empty()) {
    if (auto kept = open_kept(path)) {
      write_note(note, path);
      return {std::move(*kept)};
    }
  }
  std::vector<TokenSegment> segments;
  for (const auto& text : texts) segments.push_back(encode(text, tokenizer));
  if (!folder.empty() && keep(segments, path)) {
    write_note(note, path);
    // From the file, whose pages can leave the memory.
    if (auto kept = open_kept(path)) return {std::move(*kept)};
  }
  return segments;
}

}  // namespace x_transformers
