// The folder of a comparison: its plan, and the runs that are done.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>

#include "x_transformers/compare/comparison.h"
#include "x_transformers/core/json.h"
#include "x_transformers/io/atomic_file.h"

namespace x_transformers {

/// The run file of a comparison's run: `base` with seeds of its own, and without what would only
/// cost time.
Json seeded_run(const Json& base, int64_t steps, int64_t seed);

/// A run of few steps, to measure its speed.
Json shortened_run(const Json& base, int64_t steps);

class ComparisonFolder {
 public:
  /// Opens `out` for a comparison whose `plan` says what it must have in common with the one that
  /// began there. InputError where there is another, or something else, or one that is not to be
  /// gone on with.
  ComparisonFolder(const std::filesystem::path& out, const Json& plan, bool may_resume);

  std::filesystem::path runs() const { return out_ / "runs"; }

  /// Has `train` do `run` below `stem`, unless that is done already, and keeps how it ended; a
  /// failure only where `keeps_failure`, or it is tried again. What was stopped or paused, as at
  /// `until`, is not kept.
  RunReturn train_once(const std::filesystem::path& stem, const Json& run, bool keeps_failure,
                       const std::function<RunReturn(const RunTask& task)>& train,
                       std::optional<int64_t> until = std::nullopt) const;

  /// Takes away what a comparison has left that could not begin; nothing of one that went on.
  void remove_if_new();

 private:
  std::filesystem::path out_;
  bool is_new_ = false;
  std::optional<FolderLock> lock_;
};

}  // namespace x_transformers
