#include "x_transformers/data/files.h"

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <limits>
#include <system_error>

#include "x_transformers/core/cause.h"
#include "x_transformers/core/error.h"

namespace x_transformers {
namespace {

std::vector<std::string> list_folder(const std::string& folder) {
  namespace fs = std::filesystem;
  std::vector<std::string> files;
  std::error_code error;
  for (fs::recursive_directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    std::error_code unknown;  // a dangling link is no regular file
    if (entry->path().filename().native().starts_with('.')) {
      entry.disable_recursion_pending();
    } else if (entry->is_regular_file(unknown)) {
      files.push_back(entry->path().string());
    }
  }
  if (error) throw InputError(caused(at(folder + ":"), "cannot be read", cause_of(error)));
  require(!files.empty(), "folder " + folder + " holds no files");
  std::sort(files.begin(), files.end());
  return files;
}

constexpr size_t kHeaderBytes = 256 * sizeof(int32_t);

/// The kinds of files that llm.c writes, by the first number in them.
struct HeaderKind {
  int32_t magic, version;
  int64_t bytes_per_token;
  const char* holds;
};
constexpr HeaderKind kHeaderKinds[] = {
    {20240520, 1, 2, "tokens"},         {20240801, 7, 4, "tokens"},
    {20240326, 0, 0, "a model"},        {20240327, 0, 0, "the state of a run"},
    {20240328, 0, 0, "a tokenizer"},    {20240522, 0, 0, "an evaluation set"},
    {20240803, 0, 0, "a Llama 3 model"}};

TokenFile read_headed_tokens(const FileContents& file, const HeaderKind& kind) {
  require(kind.bytes_per_token != 0,
          fmt::format("{} is no token file: by its magic number {} it holds {} of llm.c", file.path,
                      kind.magic, kind.holds));
  require(file.bytes.size() >= kHeaderBytes,
          fmt::format("{} is cut off: {} bytes, its header alone has {}", file.path,
                      file.bytes.size(), kHeaderBytes));
  int32_t header[3];
  std::memcpy(header, file.bytes.data(), sizeof header);
  require(header[1] == kind.version,
          fmt::format("{}: token files with magic number {} have version {}, this one says {}",
                      file.path, kind.magic, kind.version, header[1]));
  const int64_t held =
      static_cast<int64_t>(file.bytes.size() - kHeaderBytes) / kind.bytes_per_token;
  const size_t expected =
      kHeaderBytes + static_cast<size_t>(std::max(header[2], 0)) * kind.bytes_per_token;
  require(header[2] >= 0 && file.bytes.size() == expected,
          fmt::format("{}: its header says {} tokens, the file holds {} ({} bytes)", file.path,
                      header[2], held, file.bytes.size()));
  return {file.bytes.data() + kHeaderBytes, header[2], kind.bytes_per_token};
}

}  // namespace

std::vector<std::string> list_files(const std::string& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (error) throw InputError(caused(at(path + ":"), "cannot be read", cause_of(error)));
  if (std::filesystem::is_directory(status)) return list_folder(path);
  require(std::filesystem::is_regular_file(status),
          "cannot read " + path + ": neither a regular file nor a folder");
  return {path};
}

FileExtent extent_of(const std::string& path) {
  FileExtent extent{path};
  for (const auto& file : list_files(path)) {
    std::error_code error;
    const auto bytes = std::filesystem::file_size(file, error);
    require(!error, fmt::format("{}: its size cannot be read", file));
    ++extent.files;
    extent.bytes += static_cast<int64_t>(bytes);
  }
  return extent;
}

bool is_token_file(const std::string& path) {
  return std::filesystem::path(path).extension() == ".bin";
}

TokenFile read_token_file(const FileContents& file) {
  static_assert(std::endian::native == std::endian::little, "token files are little-endian");
  int32_t magic = 0;
  if (file.bytes.size() >= sizeof magic) std::memcpy(&magic, file.bytes.data(), sizeof magic);
  for (const auto& kind : kHeaderKinds) {
    if (magic == kind.magic) return read_headed_tokens(file, kind);
  }
  require(file.bytes.size() % 2 == 0,
          fmt::format(
              "{} is no token file: it has {} bytes, an odd number, and uint16 tokens take 2 each",
              file.path, file.bytes.size()));
  return {file.bytes.data(), static_cast<int64_t>(file.bytes.size() / 2), 2};
}

std::array<int32_t, 256> token_file_header(int64_t tokens, int64_t bytes_per_token) {
  const auto kind =
      std::find_if(std::begin(kHeaderKinds), std::end(kHeaderKinds),
                   [&](const HeaderKind& each) { return each.bytes_per_token == bytes_per_token; });
  TORCH_CHECK(kind != std::end(kHeaderKinds) && tokens <= std::numeric_limits<int32_t>::max(),
              "[token_file_header] no file of ", tokens, " tokens of ", bytes_per_token, " bytes");
  return {kind->magic, kind->version, static_cast<int32_t>(tokens)};
}

}  // namespace x_transformers
