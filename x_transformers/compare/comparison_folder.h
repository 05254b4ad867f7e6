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
  /// Opens `out` for the comparison that `plan` describes: in a new folder or, with `may_resume`,
  /// in one where a comparison of the same plan began. InputError where the folder holds another
  /// comparison or something else, or any without `may_resume`.
  ComparisonFolder(const std::filesystem::path& out, const Json& plan, bool may_resume);

  std::filesystem::path runs() const { return out_ / "runs"; }

  /// Has `train` do `run`, in files whose names begin with `stem`, and writes down how it ended; a
  /// run that has ended before is not done again. A run that was stopped, or paused at `until`, has
  /// not ended; and without `keeps_failure` nor has one that failed, so that the next call tries
  /// again.
  RunReturn train_once(const std::filesystem::path& stem, const Json& run, bool keeps_failure,
                       const std::function<RunReturn(const RunTask& task)>& train,
                       std::optional<int64_t> until = std::nullopt) const;

  /// For a comparison that could not begin: removes its files, where this has made the folder.
  void remove_if_new();

 private:
  std::filesystem::path out_;
  bool is_new_ = false;
  std::optional<FolderLock> lock_;
};

}  // namespace x_transformers
