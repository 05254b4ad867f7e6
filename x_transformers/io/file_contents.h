// Files looked into without copying them.
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace x_transformers {

/// A whole file in memory, read-only: small ones read, others mapped. Copies share it.
struct FileContents {
  std::shared_ptr<const void> owner;
  std::string_view bytes;
  std::string path;
};

/// Throws InputError naming `path`: missing, a folder, not a regular file, unreadable.
FileContents open_file(const std::string& path);

}  // namespace x_transformers
