#include "x_transformers/io/atomic_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>

#include "x_transformers/core/cause.h"
#include "x_transformers/core/error.h"

namespace x_transformers {

namespace {

// One call to write takes at most 2 GiB less a page on Linux.
constexpr std::size_t kWriteAtOnce = std::size_t{1} << 30;

bool same_file(int descriptor, const std::filesystem::path& path) {
  struct stat opened {};
  struct stat named {};
  return ::fstat(descriptor, &opened) == 0 && ::stat(path.c_str(), &named) == 0 &&
         opened.st_dev == named.st_dev && opened.st_ino == named.st_ino;
}

bool is_special(const std::filesystem::path& path) {
  std::error_code ignored;
  const auto status = std::filesystem::status(path, ignored);
  return std::filesystem::exists(status) && !std::filesystem::is_regular_file(status);
}

std::filesystem::path folder_of(const std::filesystem::path& file) {
  return file.has_parent_path() ? file.parent_path() : std::filesystem::path(".");
}

// False, with errno set, when the folder's entries may not have reached the disk.
bool sync_folder(const std::filesystem::path& folder) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return false;
  // Some network file systems have no sync for folders; there the rename itself is synchronous.
  const bool synced = ::fsync(descriptor) == 0 || errno == EINVAL || errno == ENOTSUP;
  const int reason = errno;
  ::close(descriptor);
  errno = reason;
  return synced;
}

std::string lock_holder(int descriptor) {
  char text[32] = {};
  const ssize_t length = ::pread(descriptor, text, sizeof(text) - 1, 0);
  const std::string pid(text, std::find_if(text, text + std::max<ssize_t>(length, 0),
                                           [](char c) { return c < '0' || c > '9'; }));
  return pid.empty() ? "" : fmt::format(" (pid {})", pid);
}

}  // namespace

AtomicFile::AtomicFile(const std::filesystem::path& path) : path_(path), target_(path) {
  if (is_special(path)) {
    descriptor_ = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
    if (descriptor_ < 0) fail("cannot open");
    return;
  }
  std::error_code ignored;
  if (std::filesystem::is_symlink(path, ignored)) {
    const auto followed = std::filesystem::weakly_canonical(path, ignored);
    if (!ignored) target_ = followed;
  }
  temporary_ = folder_of(target_) / fmt::format(".{}.tmp", target_.filename().string());
  open_aside();
}

AtomicFile::~AtomicFile() { discard(); }

// The lock tells a file that another process is writing from one that a killed process left.
// Between our open and our lock the other may rename or remove the file: then the name no longer
// leads to what we opened, and we try again.
void AtomicFile::open_aside() {
  while (true) {
    descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (descriptor_ < 0) {
      const int reason = errno;
      temporary_.clear();
      errno = reason;
      fail("cannot open");
    }
    if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
      ::close(std::exchange(descriptor_, -1));
      temporary_.clear();
      throw WriteError(Notice{at(path_.string() + ":"), "another process is writing this file"});
    }
    if (same_file(descriptor_, temporary_)) break;
    ::close(std::exchange(descriptor_, -1));
  }
  if (::ftruncate(descriptor_, 0) != 0) fail("cannot empty");
}

void AtomicFile::write(const void* data, std::size_t bytes) {
  const char* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t written = ::write(descriptor_, next, std::min(bytes, kWriteAtOnce));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail("cannot write");
    next += written;
    bytes -= static_cast<std::size_t>(written);
  }
}

void AtomicFile::rewrite(std::size_t place, std::string_view text) {
  if (temporary_.empty()) errno = ESPIPE;
  while (!text.empty()) {
    const ssize_t written = temporary_.empty() ? -1
                                               : ::pwrite(descriptor_, text.data(), text.size(),
                                                          static_cast<off_t>(place));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail("cannot write");
    place += static_cast<std::size_t>(written);
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

void AtomicFile::commit() {
  if (temporary_.empty()) {
    if (::close(std::exchange(descriptor_, -1)) != 0) fail("cannot write");
    return;
  }
  if (::fsync(descriptor_) != 0) fail("cannot write");
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) fail("cannot replace");
  temporary_.clear();  // it is the target now
  if (::close(std::exchange(descriptor_, -1)) != 0) fail("cannot write");
  if (!sync_folder(folder_of(target_))) fail("cannot sync the folder of");
}

void AtomicFile::discard() noexcept {
  // Removed before the lock goes, so that no other process can take it up in between.
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
  temporary_.clear();
  if (descriptor_ >= 0) ::close(std::exchange(descriptor_, -1));
}

void AtomicFile::fail(std::string_view action) {
  auto cause = cause_of_errno(errno);
  discard();
  throw WriteError(caused(at(path_.string() + ":"), std::string(action), std::move(cause)));
}

void write_file_atomically(const std::filesystem::path& path, std::string_view content) {
  AtomicFile file(path);
  file.write(content);
  file.commit();
}

std::string whole_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  require(file.good(), at(path.string() + ":"), "cannot be read");
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

FolderLock::FolderLock(const std::filesystem::path& folder) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(folder, ignored)) {
    throw InputError(Notice{at(folder.string() + ":"), "expected a folder to write a run into"});
  }
  const auto file = folder / ".lock";
  descriptor_ = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  const bool locked = descriptor_ >= 0 && ::flock(descriptor_, LOCK_EX | LOCK_NB) == 0;
  if (!locked) {
    const int reason = errno;
    const std::string holder = descriptor_ >= 0 ? lock_holder(descriptor_) : "";
    if (descriptor_ >= 0) ::close(std::exchange(descriptor_, -1));
    if (reason == EWOULDBLOCK) {
      throw InputError(fmt::format("another run is writing {}{}", folder.string(), holder));
    }
    throw WriteError(caused(at(file.string() + ":"), "cannot lock", cause_of_errno(reason)));
  }
  // Only for the message above: a pid that cannot be written is left out there.
  const std::string pid = fmt::format("{}\n", ::getpid());
  if (::ftruncate(descriptor_, 0) == 0) {
    [[maybe_unused]] const ssize_t written = ::pwrite(descriptor_, pid.data(), pid.size(), 0);
  }
}

FolderLock::~FolderLock() { release(); }

FolderLock::FolderLock(FolderLock&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)) {}

FolderLock& FolderLock::operator=(FolderLock&& other) noexcept {
  if (this != &other) {
    release();
    descriptor_ = std::exchange(other.descriptor_, -1);
  }
  return *this;
}

// The lock file stays: removing it would let two later runs lock two different files of that name.
void FolderLock::release() noexcept {
  if (descriptor_ >= 0) ::close(std::exchange(descriptor_, -1));
}

}  // namespace x_transformers
