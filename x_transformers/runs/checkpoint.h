// The folder of a run and the checkpoints in it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace x_transformers {

/// The names of a checkpoint's files.
namespace checkpoint_file {
inline constexpr const char* kModel = "model.safetensors";
inline constexpr const char* kOptimizer = "optimizer.safetensors";
inline constexpr const char* kState = "state.json";
inline constexpr const char* kConfig = "config.json";
inline constexpr const char* kMetrics = "metrics.jsonl";
/// Only where the tokens are of a learned vocabulary: the whole of it, as make_tokenizer reads it.
inline constexpr const char* kTokenizer = "tokenizer.model";
}  // namespace checkpoint_file

/// A run's folder:
///
///     DIR/checkpoints/step-00000100/   all files, of step 100: what `generate` takes too
///     DIR/checkpoints/latest           link to the newest of these folders
///     DIR/best                         link to the one with the lowest validation loss
///     DIR/model.safetensors            link to checkpoints/latest/model.safetensors; likewise the
///                                      optimizer, the state, the config and the tokenizer
///     DIR/metrics.jsonl                a file: the run goes on writing it
///     DIR/tokens/                      text as sentencepiece encoded it (token_cache.h)
///
/// A checkpoint is written whole into a folder `.step-N.tmp`, synced and renamed; then the link
/// `latest` is replaced by one rename. So at any instant the files that DIR links to are those of
/// one step, the last that was saved whole; metrics.jsonl may be ahead of them, and its copy beside
/// them is not. All links are relative: the folder can be moved.
///
/// Hold the FolderLock of the folder while saving.
class CheckpointFolder {
 public:
  explicit CheckpointFolder(std::filesystem::path directory);

  /// Throws InputError where a run cannot start here or, with `resume`, go on: the folder holds a
  /// run already, or files of something else that a run would overwrite. Touches nothing.
  void check(bool resume) const;

  /// Makes the folder ready for saving checkpoints, with or without a tokenizer.model: removes what
  /// a killed run left unfinished, and puts lost links back, `best` to `best_step`, also where
  /// copying the run has made files of them. Checkpoints stay. Throws InputError when a file that
  /// is not ours stands where a link must go, RunError when the folder cannot be written.
  void prepare(bool has_tokenizer = false, std::optional<int64_t> best_step = std::nullopt);

  const std::filesystem::path& directory() const { return directory_; }
  /// The newest checkpoint's folder and its step, if there is one: what `latest` points to or,
  /// where that link is lost, the newest that is whole, of the newest branch (RunBranch).
  std::optional<std::filesystem::path> latest() const;
  std::optional<int64_t> latest_step() const;
  /// What `best` points to.
  std::optional<int64_t> best_step() const;
  /// Makes `latest` point to the checkpoint of `step`, which the run goes on from, and `best` to
  /// that of `best_step`, where it is there, else to none. Later checkpoints stay until the run has
  /// passed their steps.
  void go_back_to(int64_t step, std::optional<int64_t> best_step);
  /// Whether there are checkpoints, but `latest` points to none of them.
  bool is_latest_lost() const;
  /// The steps of the checkpoints that are whole, in their order.
  std::vector<int64_t> steps() const;
  /// Those of them that the latest came by (TrainState::came_by), and itself: not those that a run
  /// left behind when it went on from an earlier one.
  std::vector<int64_t> own_steps() const;
  std::filesystem::path step_folder(int64_t step) const;

  /// Saves a checkpoint: `write(folder)` must put its files there. With `is_best` DIR/best points
  /// to it as well. A step that is the latest already is not written again. When anything fails,
  /// the folder is as it was before, without the unfinished files, and the error goes on (RunError
  /// from the file system).
  void save(int64_t step, bool is_best,
            const std::function<void(const std::filesystem::path& folder)>& write);

  /// Removes all checkpoints up to the newest but the last `keep_last` of its own (own_steps), the
  /// best one and those whose step `spares` names.
  void prune(int64_t keep_last, const std::function<bool(int64_t step)>& spares = {});

 private:
  std::optional<int64_t> linked_step(const std::filesystem::path& link) const;
  bool is_run() const;
  void remove_folder(int64_t step);
  void remove_unfinished();
  void restore_link(const std::filesystem::path& link, const std::filesystem::path& target);

  std::filesystem::path directory_, checkpoints_;
};

}  // namespace x_transformers
