#include "x_transformers/runs/metrics_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "x_transformers/core/cause.h"
#include "x_transformers/core/error.h"

namespace x_transformers {
namespace {

[[noreturn]] void fail(const std::string& path, int error) {
  throw WriteError(caused(at(path + ":"), "cannot write", cause_of_errno(error)));
}

}  // namespace

AppendFile::AppendFile(std::string path)
    : path_(std::move(path)),
      descriptor_(::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644)) {
  if (descriptor_ < 0) fail(path_, errno);
}

AppendFile::~AppendFile() { ::close(descriptor_); }

void AppendFile::append(std::string_view record) {
  struct stat before {};
  const bool sized = ::fstat(descriptor_, &before) == 0 && S_ISREG(before.st_mode);
  while (!record.empty()) {
    const ssize_t count = ::write(descriptor_, record.data(), record.size());
    if (count >= 0) {
      record.remove_prefix(static_cast<size_t>(count));
    } else if (errno != EINTR) {
      const int error = errno;
      if (sized && ::ftruncate(descriptor_, before.st_size) != 0) fail(path_, errno);
      fail(path_, error);
    }
  }
}

}  // namespace x_transformers
