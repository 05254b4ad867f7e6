#include "x_transformers/io/file_contents.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>
#include <fstream>
#include <system_error>

#include "x_transformers/core/cause.h"
#include "x_transformers/core/error.h"
#include "x_transformers/io/mapped_file.h"

namespace x_transformers {
namespace {

// Smaller files are read: a process may hold only some 65000 mappings.
constexpr size_t kMapFrom = size_t{1} << 20;

[[noreturn]] void fail(const std::string& path, int error) {
  throw InputError(caused(at(path + ":"), "cannot be read", cause_of_errno(error)));
}

/// The bytes of a small file.
std::shared_ptr<const void> read_file(const std::string& path, size_t size) {
  const std::shared_ptr<char[]> buffer(new char[size]);
  std::ifstream file(path, std::ios::binary);
  if (!file) fail(path, errno);
  require(static_cast<bool>(file.read(buffer.get(), static_cast<std::streamsize>(size))),
          "cannot read " + path + ": it ended before its size");
  return {buffer, buffer.get()};
}

std::shared_ptr<const void> map_file(const std::string& path) {
  const auto mapping = std::make_shared<const MappedFile>(path);
  return {mapping, mapping->data()};
}

struct stat file_status(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) fail(path, errno);
  return status;
}

}  // namespace

FileContents open_file(const std::string& path) {
  const auto status = file_status(path);
  require(!S_ISDIR(status.st_mode), "cannot read " + path + ": it is a folder, expected a file");
  require(S_ISREG(status.st_mode), "cannot read " + path + ": not a regular file");
  const auto size = static_cast<size_t>(status.st_size);
  FileContents contents;
  contents.path = path;
  contents.owner = size < kMapFrom ? read_file(path, size) : map_file(path);
  contents.bytes = {static_cast<const char*>(contents.owner.get()), size};
  return contents;
}

}  // namespace x_transformers
