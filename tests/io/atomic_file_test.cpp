#include "x_transformers/io/atomic_file.h"

#include <gmock/gmock.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "test_files.h"

namespace x_transformers {
namespace {

using testing::HasSubstr;

class AtomicFileTest : public FolderTest {
 protected:
  int files_in_folder() const {
    const auto entries = std::filesystem::directory_iterator(folder_);
    return static_cast<int>(std::distance(begin(entries), end(entries)));
  }
};

TEST_F(AtomicFileTest, CommitPutsAllThatWasWrittenInPlace) {
  const auto path = folder_ / "file";
  AtomicFile file(path);
  file.write("one ");
  file.write("two", 3);
  EXPECT_FALSE(std::filesystem::exists(path));
  file.commit();
  EXPECT_EQ(read_bytes(path), "one two");
  EXPECT_EQ(files_in_folder(), 1);
}

TEST_F(AtomicFileTest, WhatWasWrittenCanBeRewrittenBeforeTheCommit) {
  const auto path = folder_ / "file";
  AtomicFile file(path);
  file.write("one two three");
  file.rewrite(4, "TWO");
  file.write(" four");
  file.commit();
  EXPECT_EQ(read_bytes(path), "one TWO three four");
}

TEST_F(AtomicFileTest, WithoutCommitTheOldFileStays) {
  const auto path = folder_ / "file";
  write_file_atomically(path, "old");
  {
    AtomicFile file(path);
    file.write("new");
  }
  EXPECT_EQ(read_bytes(path), "old");
  EXPECT_EQ(files_in_folder(), 1);
}

TEST_F(AtomicFileTest, ALinkIsFollowed) {
  write_bytes(folder_ / "target", "old");
  std::filesystem::create_symlink("target", folder_ / "link");
  write_file_atomically(folder_ / "link", "new");
  EXPECT_TRUE(std::filesystem::is_symlink(folder_ / "link"));
  EXPECT_EQ(read_bytes(folder_ / "target"), "new");
}

TEST_F(AtomicFileTest, AFullDeviceIsNamedWithTheReason) {
  const std::string message =
      message_of<RunError>([] { write_file_atomically("/dev/full", "anything"); });
  EXPECT_THAT(message, HasSubstr("/dev/full"));
  EXPECT_THAT(message, HasSubstr("No space left on device"));
}

TEST_F(AtomicFileTest, AWriteThatFailsLeavesTheOldFileAndNothingElse) {
  const auto path = folder_ / "file";
  write_file_atomically(path, "old");
  const auto old_handler = ::signal(SIGXFSZ, SIG_IGN);
  rlimit limit{};
  ::getrlimit(RLIMIT_FSIZE, &limit);
  const rlimit small{1000, limit.rlim_max};
  ::setrlimit(RLIMIT_FSIZE, &small);
  const std::string message = message_of<RunError>([&] {
    AtomicFile file(path);
    file.write(std::string(900, 'a'));
    file.write(std::string(900, 'b'));
    file.commit();
  });
  ::setrlimit(RLIMIT_FSIZE, &limit);
  ::signal(SIGXFSZ, old_handler);
  EXPECT_THAT(message, HasSubstr(path.string()));
  EXPECT_THAT(message, HasSubstr("File too large"));
  EXPECT_EQ(read_bytes(path), "old");
  EXPECT_EQ(files_in_folder(), 1);
}

TEST_F(AtomicFileTest, AfterAFailureNothingIsCommitted) {
  AtomicFile file("/dev/full");
  EXPECT_THROW(file.write("anything"), RunError);
  EXPECT_THROW(file.write("more"), RunError);
  EXPECT_THROW(file.commit(), RunError);
}

TEST_F(AtomicFileTest, AMissingFolderIsNamed) {
  const auto path = folder_ / "missing" / "file";
  const std::string message = message_of<RunError>([&] { AtomicFile file(path); });
  EXPECT_THAT(message, HasSubstr(path.string()));
  EXPECT_THAT(message, HasSubstr("No such file or directory"));
}

TEST_F(AtomicFileTest, AFolderIsNotReplaced) {
  EXPECT_THROW(write_file_atomically(folder_, "text"), RunError);
  EXPECT_TRUE(std::filesystem::is_directory(folder_));
}

TEST_F(AtomicFileTest, TwoWritersOfOneFileDoNotMix) {
  const auto path = folder_ / "file";
  AtomicFile first(path);
  first.write("first");
  EXPECT_THAT(message_of<RunError>([&] { AtomicFile second(path); }),
              HasSubstr("another process is writing"));
  first.commit();
  write_file_atomically(path, "second");
  EXPECT_EQ(read_bytes(path), "second");
}

TEST_F(AtomicFileTest, AKilledWriterLeavesTheOldFileAndIsCleanedUpAfter) {
  const auto path = folder_ / "file";
  write_file_atomically(path, "old");
  const pid_t child = ::fork();
  if (child == 0) {
    AtomicFile file(path);
    file.write(std::string(5000, 'x'));
    ::raise(SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(read_bytes(path), "old");
  EXPECT_EQ(files_in_folder(), 2);
  write_file_atomically(path, "new");
  EXPECT_EQ(read_bytes(path), "new");
  EXPECT_EQ(files_in_folder(), 1);
}

using FolderLockTest = FolderTest;

TEST_F(FolderLockTest, ASecondLockIsRefusedWithThePidOfTheFirst) {
  const FolderLock lock(folder_);
  const std::string message = message_of<InputError>([&] { FolderLock second(folder_); });
  EXPECT_EQ(message, "another run is writing " + folder_.string() + " (pid " +
                         std::to_string(::getpid()) + ")");
}

TEST_F(FolderLockTest, TheEndOfTheObjectReleases) {
  { const FolderLock lock(folder_); }
  EXPECT_NO_THROW(FolderLock lock(folder_));
}

TEST_F(FolderLockTest, AMovedLockHolds) {
  FolderLock lock(folder_);
  {
    const FolderLock moved = std::move(lock);
    EXPECT_THROW(FolderLock second(folder_), InputError);
  }
  EXPECT_NO_THROW(FolderLock second(folder_));
}

TEST_F(FolderLockTest, AKilledProcessReleases) {
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const FolderLock lock(folder_);
    [[maybe_unused]] const ssize_t written = ::write(ready[1], "x", 1);
    while (true) ::pause();
  }
  char byte = 0;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  EXPECT_THAT(message_of<InputError>([&] { FolderLock lock(folder_); }),
              HasSubstr("(pid " + std::to_string(child) + ")"));
  ::kill(child, SIGKILL);
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  EXPECT_NO_THROW(FolderLock lock(folder_));
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST_F(FolderLockTest, AMissingFolderIsRefused) {
  EXPECT_THAT(message_of<InputError>([&] { FolderLock lock(folder_ / "missing"); }),
              HasSubstr("expected a folder"));
}

}  // namespace
}  // namespace x_transformers
