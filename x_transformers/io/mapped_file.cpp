#include "x_transformers/io/mapped_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "x_transformers/core/cause.h"
#include "x_transformers/core/error.h"

namespace x_transformers {

MappedFile::MappedFile(const std::filesystem::path& path) {
  // Not blocking, so that a pipe is told from a file at once.
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) {
    throw InputError(caused(at(path.string() + ":"), "cannot open", cause_of_errno(errno)));
  }
  struct stat status {};
  const bool regular = ::fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode);
  if (regular) size_ = static_cast<std::size_t>(status.st_size);
  void* address = MAP_FAILED;
  if (size_ > 0) {
    address =
        ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, descriptor, 0);
  }
  const int reason = errno;
  ::close(descriptor);
  if (!regular) throw InputError(Notice{at(path.string() + ":"), "expected a regular file"});
  if (size_ == 0) throw InputError(Notice{at(path.string() + ":"), "the file is empty"});
  if (address == MAP_FAILED) {
    throw InputError(caused(at(path.string() + ":"), "cannot map", cause_of_errno(reason)));
  }
  data_ = static_cast<std::byte*>(address);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

}  // namespace x_transformers
