// A comparison: a base and its variants, trained one after the other with several seeds each.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "x_transformers/compare/budget.h"
#include "x_transformers/compare/comparison_result.h"
#include "x_transformers/compare/equal_width.h"
#include "x_transformers/compare/variants.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/notice.h"

namespace x_transformers {

struct ComparisonOptions {
  std::string run_file;  ///< of the base, for messages
  Json base;             ///< its content, with what the command line changes
  std::vector<Variant> variants;
  int64_t seeds = 3;
  Budget budget;
  /// Widths of variants are adjusted, so that they are as large as the base.
  EqualTo equal_to = EqualTo::kNothing;
  /// Runs side by side. Where the run file does not say how many threads a run has, they share
  /// those of the machine.
  int64_t jobs = 1;
  /// Give up variants that can no longer win: at a quarter and at half of the steps of their first
  /// run, by lost_at_rung (halving.h), and after the second seed and each later one those that are
  /// worse by then. Needs two seeds.
  bool stop_early = false;
  std::filesystem::path out;
  /// Go on with the comparison in `out`, or start where there is none.
  bool resume = false;
};

/// One training run, which another process may do.
struct RunTask {
  std::filesystem::path run_file;   ///< whose whole content is the run
  std::filesystem::path directory;  ///< of the run, which goes on where it was
  /// The step after which it ends for the time being; absent: it comes to its end.
  std::optional<int64_t> until = std::nullopt;
};

/// kPaused: at RunTask::until.
enum class RunEnd { kFinished, kFailed, kStopped, kPaused };

struct RunReturn {
  RunEnd end = RunEnd::kFinished;
  Notice failure = {};          ///< what went wrong, if it is known
  bool is_wrong_input = false;  ///< whether the failure is an InputError
};

/// What the program around a comparison does.
struct ComparisonParts {
  /// With several jobs it is called by several threads.
  std::function<RunReturn(const RunTask& task)> train;
  /// Milliseconds that a token takes to decode for a sequence by itself; empty, or absent: not
  /// measured.
  std::function<std::optional<double>(const std::filesystem::path& run_file)> decoding_ms = {};
  /// A line for the user, as runs end.
  std::function<void(const std::string& line)> message = {};
};

/// Trains the base with each seed, then round by round each variant with one seed and a short turn
/// of the base, by which speeds are compared: a machine that drifts drifts for all. Run k has seeds
/// data.seed + k and train.seed + k, the same batches for base and variants. Leaves in `out`
/// comparison.json and a folder of runs for each; finished runs are not done again. After each run
/// `report` is called with what is known. Throws InputError: options that do not go together, a
/// folder of something else, a comparison of something else; RunError where the base fails.
ComparisonResult run_comparison(const ComparisonOptions& options, const ComparisonParts& parts,
                                const std::function<void(const ComparisonResult&)>& report = {});

}  // namespace x_transformers
