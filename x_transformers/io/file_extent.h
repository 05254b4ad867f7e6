// How much a file or folder holds.
#pragma once

#include <cstdint>
#include <string>

namespace x_transformers {

/// A file, or a folder with all that is in it.
struct FileExtent {
  std::string path;
  int64_t files = 0;
  int64_t bytes = 0;

  bool operator==(const FileExtent&) const = default;

  template <class Visitor>
  void fields(Visitor& v) {
    v("path", path, "a file, or a folder");
    v("files", files, "files in it");
    v("bytes", bytes, "of all its files");
  }
};

}  // namespace x_transformers
