#include "x_transformers/io/mapped_file.h"

#include <gmock/gmock.h>

#include "test_files.h"

namespace x_transformers {
namespace {

using testing::HasSubstr;
using MappedFileTest = FolderTest;

TEST_F(MappedFileTest, HoldsTheBytesAndKeepsTheFile) {
  const auto path = folder_ / "file";
  write_bytes(path, "text");
  const MappedFile file(path);
  ASSERT_EQ(file.size(), 4U);
  EXPECT_EQ(static_cast<char>(file.data()[3]), 't');
  file.data()[0] = std::byte{'n'};
  EXPECT_EQ(read_bytes(path), "text");
}

TEST_F(MappedFileTest, WhatCannotBeMappedIsNamed) {
  const auto refusal = [](const std::filesystem::path& path) {
    return message_of<InputError>([&] { MappedFile file(path); });
  };
  write_bytes(folder_ / "empty", "");
  EXPECT_EQ(refusal(folder_ / "empty"), (folder_ / "empty").string() + ": the file is empty");
  EXPECT_THAT(refusal(folder_ / "none"), HasSubstr("none: cannot open: No such file"));
  EXPECT_THAT(refusal(folder_), HasSubstr("expected a regular file"));
}

}  // namespace
}  // namespace x_transformers
