// A file that only grows.
#pragma once

#include <string>
#include <string_view>

namespace x_transformers {

/// Appends records to a file, each with one write. Every failure is a RunError that names the path.
class AppendFile {
 public:
  /// Opens `path`, which is made where it is missing.
  explicit AppendFile(std::string path);
  ~AppendFile();
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;

  /// Appends `record`. Where that fails (disk full), removes what was written of it.
  void append(std::string_view record);

  const std::string& path() const { return path_; }

 private:
  std::string path_;
  int descriptor_ = -1;
};

}  // namespace x_transformers
