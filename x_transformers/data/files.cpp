#include "x_transformers/data/files.h"

#include <algorithm>
#include <filesystem>
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
    require(!error, at(file + ":"), "its size cannot be read");
    ++extent.files;
    extent.bytes += static_cast<int64_t>(bytes);
  }
  return extent;
}

}  // namespace x_transformers
