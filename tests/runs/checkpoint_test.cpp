#include "x_transformers/runs/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <fstream>

#include "x_transformers/core/error.h"
#include "x_transformers/core/generator_state.h"
#include "x_transformers/io/atomic_file.h"
#include "x_transformers/runs/checkpoint_state.h"

namespace x_transformers {
namespace {

namespace fs = std::filesystem;

class CheckpointTest : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = fs::path(testing::TempDir()) /
                 (std::string("checkpoint_") +
                  testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(directory_);
    fs::create_directories(directory_);
  }
  void TearDown() override { fs::remove_all(directory_); }

  static void write_text(const fs::path& folder, const std::string& text) {
    for (const char* name :
         {checkpoint_file::kModel, checkpoint_file::kOptimizer, checkpoint_file::kState,
          checkpoint_file::kConfig, checkpoint_file::kMetrics}) {
      write_file_atomically(folder / name, text);
    }
  }
  static void save(CheckpointFolder& folder, int64_t step, bool is_best = false) {
    folder.save(step, is_best,
                [&](const fs::path& path) { write_text(path, std::to_string(step)); });
  }
  std::string read(const std::string& name) const {
    std::ifstream file(directory_ / name);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  std::vector<std::string> saved() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(directory_ / "checkpoints")) {
      names.push_back(entry.path().filename().string());
    }
    std::sort(names.begin(), names.end());
    return names;
  }

  fs::path directory_;
};

using testing::ElementsAre;

TEST_F(CheckpointTest, AllNamesAreOfTheLatestStep) {
  CheckpointFolder folder(directory_);
  EXPECT_EQ(folder.latest_step(), std::nullopt);
  folder.prepare();
  EXPECT_EQ(folder.latest(), std::nullopt);
  for (const int64_t step : {3, 12}) {
    save(folder, step);
    EXPECT_EQ(folder.latest_step(), step);
    for (const char* name :
         {"model.safetensors", "optimizer.safetensors", "state.json", "config.json"}) {
      EXPECT_EQ(read(name), std::to_string(step)) << name;
    }
    EXPECT_EQ(read("checkpoints/latest/metrics.jsonl"), std::to_string(step));
  }
  EXPECT_THAT(saved(), ElementsAre("latest", "step-00000003", "step-00000012"));
}

TEST_F(CheckpointTest, AMovedFolderStaysWhole) {
  CheckpointFolder folder(directory_);
  folder.prepare();
  save(folder, 5, /*is_best=*/true);
  const fs::path moved = directory_.string() + "_moved";
  fs::remove_all(moved);
  fs::rename(directory_, moved);
  directory_ = moved;
  EXPECT_EQ(read("model.safetensors"), "5");
  EXPECT_EQ(read("best/model.safetensors"), "5");
  EXPECT_EQ(CheckpointFolder(moved).latest_step(), 5);
}

TEST_F(CheckpointTest, KeepsTheLastOnesAndTheBest) {
  CheckpointFolder folder(directory_);
  folder.prepare();
  for (int64_t step = 1; step <= 6; ++step) {
    save(folder, step, step == 2);
    folder.prune(2);
  }
  EXPECT_THAT(saved(), ElementsAre("latest", "step-00000002", "step-00000005", "step-00000006"));
  EXPECT_EQ(read("best/state.json"), "2");
  save(folder, 7, /*is_best=*/true);
  folder.prune(1);
  EXPECT_THAT(saved(), ElementsAre("latest", "step-00000007"));
}

TEST_F(CheckpointTest, TheLatestStepIsNotWrittenAgain) {
  CheckpointFolder folder(directory_);
  folder.prepare();
  save(folder, 4);
  folder.save(4, /*is_best=*/true, [](const fs::path&) { FAIL() << "written again"; });
  EXPECT_EQ(read("best/model.safetensors"), "4");
}

TEST_F(CheckpointTest, AFailureWhileWritingLeavesTheLastOne) {
  CheckpointFolder folder(directory_);
  folder.prepare();
  save(folder, 1);
  EXPECT_THROW(folder.save(2, true,
                           [](const fs::path& path) {
                             write_text(path, "2");
                             throw RunError("disk full");
                           }),
               RunError);
  EXPECT_EQ(folder.latest_step(), 1);
  EXPECT_EQ(read("optimizer.safetensors"), "1");
  EXPECT_FALSE(fs::exists(directory_ / "best"));
  EXPECT_THAT(saved(), ElementsAre("latest", "step-00000001"));
}

TEST_F(CheckpointTest, WhatAKillLeftIsRemoved) {
  CheckpointFolder folder(directory_);
  folder.prepare();
  save(folder, 1);
  // Killed while writing step 2, while removing step 0, and between a rename and that of the link.
  fs::create_directory(directory_ / "checkpoints/.step-00000002.tmp");
  fs::create_directory(directory_ / "checkpoints/.step-00000000.old.tmp");
  fs::create_directory(directory_ / "checkpoints/step-00000003");
  write_text(directory_ / "checkpoints/step-00000003", "3");
  fs::create_symlink("step-00000003", directory_ / "checkpoints/.latest.tmp");
  CheckpointFolder again(directory_);
  EXPECT_EQ(again.latest_step(), 1);
  again.prepare();
  // What is whole stays until it is superseded.
  EXPECT_THAT(saved(), ElementsAre("latest", "step-00000001", "step-00000003"));
  EXPECT_EQ(again.latest_step(), 1);
  save(again, 2);
  again.prune(1);
  EXPECT_THAT(saved(), ElementsAre("latest", "step-00000002", "step-00000003"));
  EXPECT_THROW(again.save(3, false, [](const fs::path&) { throw RunError("disk full"); }),
               RunError);
  EXPECT_THAT(saved(), ElementsAre("latest", "step-00000002", "step-00000003"));
  again.save(3, false, [](const fs::path& path) { write_text(path, "new"); });
  EXPECT_EQ(read("model.safetensors"), "new");
  EXPECT_THAT(saved(), ElementsAre("latest", "step-00000002", "step-00000003"));
}

TEST_F(CheckpointTest, WithoutItsLinkTheNewestWholeOneIsTheLatest) {
  CheckpointFolder folder(directory_);
  folder.prepare();
  for (const int64_t step : {1, 2, 3, 4}) save(folder, step);
  EXPECT_FALSE(folder.is_latest_lost());
  fs::remove_all(directory_ / "checkpoints/step-00000004");
  fs::remove(directory_ / "checkpoints/step-00000003/model.safetensors");
  EXPECT_TRUE(folder.is_latest_lost());
  EXPECT_EQ(folder.latest_step(), 2);
  EXPECT_THROW(folder.check(/*resume=*/false), InputError);
  folder.check(/*resume=*/true);
  folder.prepare();
  EXPECT_FALSE(folder.is_latest_lost());
  EXPECT_EQ(read("model.safetensors"), "2");
  folder.prune(1);
  EXPECT_THAT(saved(), ElementsAre("latest", "step-00000002", "step-00000003"));
}

TEST_F(CheckpointTest, LinksThatWereFollowedByACopyAreLinksAgain) {
  CheckpointFolder folder(directory_);
  folder.prepare();
  save(folder, 1, /*is_best=*/true);
  save(folder, 2);
  const fs::path copied = directory_.string() + "_copied";
  fs::remove_all(copied);
  fs::copy(directory_, copied, fs::copy_options::recursive);
  fs::remove_all(directory_);
  fs::rename(copied, directory_);
  ASSERT_FALSE(fs::is_symlink(directory_ / "best"));
  folder.check(/*resume=*/true);
  folder.prepare(/*has_tokenizer=*/false, /*best_step=*/1);
  for (const char* name : {"best", "checkpoints/latest", "model.safetensors", "config.json"})
    EXPECT_TRUE(fs::is_symlink(directory_ / name)) << name;
  EXPECT_EQ(read("model.safetensors"), "2");
  EXPECT_EQ(read("best/model.safetensors"), "1");
}

TEST_F(CheckpointTest, WhatIsNoCopyIsNotReplacedByALink) {
  CheckpointFolder folder(directory_);
  folder.prepare();
  save(folder, 1, /*is_best=*/true);
  fs::remove(directory_ / "best");
  fs::create_directory(directory_ / "best");
  std::ofstream(directory_ / "best/model.safetensors") << "mine";
  EXPECT_THROW(folder.prepare(false, 1), InputError);
  EXPECT_EQ(read("best/model.safetensors"), "mine");
}

TEST_F(CheckpointTest, RefusesFilesThatAreNotOfARunAndTouchesNothing) {
  for (const char* name : {"model.safetensors", "metrics.jsonl", "loss.png", "loss.svg", "best",
                           "tensorboard", "checkpoints"}) {
    std::ofstream(directory_ / name) << "mine";
    EXPECT_THROW(CheckpointFolder(directory_).check(/*resume=*/true), InputError) << name;
    EXPECT_EQ(read(name), "mine");
    fs::remove(directory_ / name);
  }
  EXPECT_TRUE(fs::is_empty(directory_));
  std::ofstream(directory_ / "notes.txt") << "mine";
  CheckpointFolder(directory_).check(false);
  CheckpointFolder(directory_ / "none").check(false);
}

TEST_F(CheckpointTest, ARunThatWasKilledBetweenItsFirstLinksIsOne) {
  const std::vector<std::string> names = {checkpoint_file::kModel, checkpoint_file::kOptimizer,
                                          checkpoint_file::kState, checkpoint_file::kConfig};
  fs::create_directory(directory_ / "checkpoints");
  for (const auto& name : names) {
    fs::create_symlink(fs::path("checkpoints/latest") / name, directory_ / name);
    CheckpointFolder folder(directory_);
    folder.check(/*resume=*/true);
    folder.check(/*resume=*/false);
  }
  fs::remove(directory_ / checkpoint_file::kState);
  CheckpointFolder folder(directory_);
  folder.check(/*resume=*/true);
  folder.prepare();
  save(folder, 1);
  for (const auto& name : names) EXPECT_EQ(read(name), "1");
}

TEST_F(CheckpointTest, ALinkToSomethingElseIsOfNoRun) {
  fs::create_symlink("weights/model.safetensors", directory_ / checkpoint_file::kModel);
  EXPECT_THROW(CheckpointFolder(directory_).check(/*resume=*/true), InputError);
}

TEST_F(CheckpointTest, PruningLeavesWhatIsAskedFor) {
  CheckpointFolder folder(directory_);
  folder.prepare();
  for (const int64_t step : {1, 2, 3, 4}) save(folder, step);
  folder.prune(1, [](int64_t step) { return step == 2; });
  EXPECT_THAT(saved(), ElementsAre("latest", "step-00000002", "step-00000004"));
}

TEST_F(CheckpointTest, AKillAtAnyInstantLeavesOneStep) {
  int64_t last = 0;
  CheckpointFolder folder(directory_);
  for (int round = 0; round < 12; ++round) {
    const pid_t child = fork();
    if (child == 0) {
      CheckpointFolder writer(directory_);
      writer.prepare();
      for (int64_t step = last + 1;; ++step) {
        save(writer, step, step % 3 == 0);
        writer.prune(1);
      }
    }
    ASSERT_GT(child, 0);
    // Once it saves, at another place in the next save each time.
    for (int waits = 0; waits < 2000 && folder.latest_step().value_or(0) == last; ++waits) {
      usleep(5000);
    }
    usleep(static_cast<useconds_t>(3700 * round));
    kill(child, SIGKILL);
    int status = 0;
    waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status));
    ASSERT_GT(folder.latest_step().value_or(0), last);
    last = *folder.latest_step();
    // The very first one may be whole without its link yet, which going on makes.
    if (round == 0) folder.prepare();
    for (const char* name : {"model.safetensors", "optimizer.safetensors", "state.json",
                             "config.json", "checkpoints/latest/metrics.jsonl"}) {
      EXPECT_EQ(read(name), std::to_string(last)) << name;
    }
  }
}

TEST_F(CheckpointTest, DoesNotReplaceAFileThatIsNotItsOwn) {
  std::ofstream(directory_ / "model.safetensors") << "mine";
  CheckpointFolder folder(directory_);
  EXPECT_THROW(folder.prepare(), InputError);
  EXPECT_EQ(read("model.safetensors"), "mine");
}

TEST_F(CheckpointTest, Base64GoesThereAndBack) {
  for (const int64_t size : {0, 1, 2, 3, 4, 5056}) {
    const at::Tensor bytes = at::randint(0, 256, {size}, at::kByte);
    EXPECT_TRUE(at::equal(base64_decode(base64_encode(bytes)), bytes)) << size;
  }
  const std::string text = "Many hands";  // RFC 4648 by hand
  const at::Tensor bytes = at::from_blob(const_cast<char*>(text.data()), {10}, at::kByte).clone();
  EXPECT_EQ(base64_encode(bytes), "TWFueSBoYW5kcw==");
  for (const char* bad : {"abc", "ab!d", "=abc", "a===", "ab=c", "ab==abcd"}) {
    EXPECT_THROW(base64_decode(bad), InputError) << bad;
  }
}

TEST_F(CheckpointTest, TrainStateReadsBack) {
  TrainState state;
  state.step = 12;
  state.samples = 48;
  state.data_files = {{"a.txt", 1, 5}};
  state.data_fingerprint = "abc";
  state.seconds = 1.5;
  state.best_val_loss = 0.1 + 0.2;
  state.best_step = 9;
  state.random.cpu = "AAAA";
  const fs::path path = directory_ / "state.json";
  save_train_state(path, state);
  const TrainState again = load_train_state(path);
  EXPECT_EQ(again.step, 12);
  EXPECT_EQ(again.samples, 48);
  EXPECT_EQ(again.data_files, state.data_files);
  EXPECT_EQ(again.data_fingerprint, "abc");
  EXPECT_EQ(again.best_val_loss, 0.1 + 0.2);
  EXPECT_EQ(again.best_step, 9);
  EXPECT_EQ(again.random.cpu, state.random.cpu);
  EXPECT_EQ(again.random.device, std::nullopt);
  EXPECT_THROW(load_train_state(directory_ / "missing.json"), InputError);
  EXPECT_EQ(load_train_state(directory_, 12).step, 12);
  EXPECT_THROW(load_train_state(directory_, 13), InputError);
  for (const char* text : {"[1]", "{}", R"({"step": -1})", R"({"step": 1, "samples": -1})"}) {
    std::ofstream(path) << text;
    EXPECT_THROW(load_train_state(path), InputError) << text;
  }
}

}  // namespace
}  // namespace x_transformers
