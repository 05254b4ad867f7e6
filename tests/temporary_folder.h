// A place for the files of these tests.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>

namespace x_transformers {

/// A folder of this process, with a slash at its end; it goes when the process ends.
inline const std::string& temporary_folder() {
  struct Folder {
    std::string path =
        testing::TempDir() + "x_transformers_train_" + std::to_string(::getpid()) + "/";
    Folder() {
      std::filesystem::remove_all(path);
      std::filesystem::create_directories(path);
    }
    ~Folder() {
      std::error_code ignored;
      std::filesystem::remove_all(path, ignored);
    }
  };
  static const Folder folder;
  return folder.path;
}

}  // namespace x_transformers
