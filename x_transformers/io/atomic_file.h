// Files that are there wholly or not at all, and the lock of a run folder.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>

namespace x_transformers {

/// Writes a file aside and moves it into place, so that a reader, or a run after a kill at any
/// instant, finds the old file or the new one and nothing between.
///
///     AtomicFile file("runs/demo/model.safetensors");
///     file.write(header);
///     file.write(tensor.data_ptr(), tensor.nbytes());
///     file.commit();
///
/// The new file grows as `.NAME.tmp` in the same folder and is removed when the object ends without
/// commit(). What a killed process left under that name is overwritten by the next write. A path
/// that exists and is not a regular file (/dev/stdout, a pipe) is written in place. Every failure
/// is a RunError that names the path and the system's reason; the old file is then as it was, and
/// the object accepts nothing more.
class AtomicFile {
 public:
  /// Opens the file aside. RunError when the folder does not take it or another process is writing
  /// the same file.
  explicit AtomicFile(const std::filesystem::path& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  /// Appends `bytes` bytes from `data`.
  void write(const void* data, std::size_t bytes);
  /// Appends `text`.
  void write(std::string_view text) { write(text.data(), text.size()); }
  /// Replaces what was written from byte `place` on, for what is known only at the end. Not of a
  /// path that is written in place.
  void rewrite(std::size_t place, std::string_view text);
  /// Syncs the file, renames it into place and syncs the folder. Once only.
  void commit();

 private:
  void open_aside();
  void discard() noexcept;
  [[noreturn]] void fail(std::string_view action);

  std::filesystem::path path_;       // as given, for messages
  std::filesystem::path target_;     // the file that is replaced, links followed
  std::filesystem::path temporary_;  // empty: written in place
  int descriptor_ = -1;
};

/// Writes `content` as the whole of the file `path`, through an AtomicFile.
void write_file_atomically(const std::filesystem::path& path, std::string_view content);
/// The whole of the file `path`. InputError where it cannot be read.
std::string whole_file(const std::filesystem::path& path);

/// Exclusive right to write into a run folder, held until the object or the process ends, however
/// it ends.
class FolderLock {
 public:
  /// Locks `folder` by its file `.lock`. InputError "another run is writing DIR (pid N)" when the
  /// lock is held, and when `folder` is not a folder; RunError when it cannot be locked at all.
  explicit FolderLock(const std::filesystem::path& folder);
  ~FolderLock();
  FolderLock(FolderLock&& other) noexcept;
  FolderLock& operator=(FolderLock&& other) noexcept;
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  void release() noexcept;

  int descriptor_ = -1;
};

}  // namespace x_transformers
