// A whole file in memory, read from the disk as it is used.
#pragma once

#include <cstddef>
#include <filesystem>

namespace x_transformers {

/// Private mapping of a regular file, not empty: its memory may be written, which never changes the
/// file.
///
/// The file must not be shortened while it is mapped: touching what is gone ends the process
/// (SIGBUS).
class MappedFile {
 public:
  /// InputError, naming the file and the reason, when `path` cannot be opened or mapped, is not a
  /// regular file or is empty.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace x_transformers
