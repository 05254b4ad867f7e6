// A comparison: a base and its variants, trained one after the other with several seeds each.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "x_transformers/compare/budget.h"
#include "x_transformers/compare/equal_width.h"
#include "x_transformers/compare/run_numbers.h"
#include "x_transformers/compare/statistics.h"
#include "x_transformers/compare/variants.h"
#include "x_transformers/core/json.h"

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
  /// Give up, after the second seed and each later one, the variants that are worse by then.
  bool stop_early = false;
  std::filesystem::path out;
  /// Go on with the comparison in `out`, or start where there is none.
  bool resume = false;
};

/// One training run, which another process may do.
struct RunTask {
  std::filesystem::path run_file;   ///< whose whole content is the run
  std::filesystem::path directory;  ///< of the run, which goes on where it was
};

enum class RunEnd { kFinished, kFailed, kStopped };

struct RunReturn {
  RunEnd end = RunEnd::kFinished;
  std::string reason = {};      ///< of a failure
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

/// The base or a variant, as far as it has run.
struct VariantResult {
  std::string name;
  Json settings = Json::object();  ///< values by the paths of options
  std::string failure;             ///< why it has no result; empty: it has
  bool is_whole = false;           ///< whether all of its seeds have run
  int64_t steps = 0;
  std::optional<AdjustedWidth> width = std::nullopt;  ///< absent: that of the base, or its own
  std::vector<std::filesystem::path> directories;     ///< of the runs in `runs`
  std::vector<RunNumbers> runs;                       ///< by seed

  std::optional<double> parameters, flops_per_token, decoding_ms;
  std::optional<double> relative_speed;  ///< targets a second, over those of the base near in time
  /// Targets a second where nothing disturbs: relative_speed times the base's median.
  std::optional<double> usual_speed;

  // Where is_judged():
  Difference difference, paired;
  Verdict verdict = Verdict::kNoDifferenceSeen;
  /// The seconds are those at the usual speed.
  std::optional<double> steps_to_base_loss, seconds_to_base_loss;

  std::vector<double> losses() const, best_losses() const;
  bool has_failed() const { return !failure.empty(); }
  bool is_judged() const { return is_whole && !has_failed() && !runs.empty(); }
};

struct ComparisonResult {
  VariantResult base;
  std::vector<VariantResult> variants;
  int64_t seeds = 0;
  std::string budget;
  EqualTo equal_to = EqualTo::kNothing;
  std::string run_file;
  Json base_run;
  bool is_complete = false;
  /// Slowest and fastest of the base's runs and turns, as targets a second.
  double slowest = 0, fastest = 0;
};

/// Trains the base with each seed, then round by round each variant with one seed and a short turn
/// of the base, by which speeds are compared: a machine that drifts drifts for all. Run k has seeds
/// data.seed + k and train.seed + k, the same batches for base and variants. Leaves in `out`
/// comparison.json and a folder of runs for each; finished runs are not done again. After each run
/// `report` is called with what is known. Throws InputError: options that do not go together, a
/// folder of something else, a comparison of something else; RunError where the base fails.
ComparisonResult run_comparison(const ComparisonOptions& options, const ComparisonParts& parts,
                                const std::function<void(const ComparisonResult&)>& report = {});

/// The mean over an entry's runs of their median speeds.
std::optional<double> mean_speed(const VariantResult& variant);

/// Judges the variants whose seeds have all run.
void judge(ComparisonResult& result);

}  // namespace x_transformers
