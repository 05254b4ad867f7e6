// What a comparison knows: the runs of the base and of each variant, and what they say.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "x_transformers/compare/equal_width.h"
#include "x_transformers/compare/run_numbers.h"
#include "x_transformers/compare/statistics.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/notice.h"

namespace x_transformers {

/// The base or a variant, as far as it has run.
struct VariantResult {
  std::string name;
  Json settings = Json::object();  ///< values by the paths of options
  std::optional<Notice> failure;   ///< why it has no result
  std::string given_up;            ///< when and why its runs were left off; empty: they were not
  bool is_whole = false;           ///< whether all of its seeds have run that will
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
  bool has_failed() const { return failure.has_value(); }
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
  std::string loss_unit;  ///< LossUnit::name
  bool is_complete = false;
  /// Slowest and fastest of the base's runs and turns, as targets a second.
  double slowest = 0, fastest = 0;
};

/// The mean over an entry's runs of their median speeds.
std::optional<double> mean_speed(const VariantResult& variant);

/// Judges the variants whose seeds have all run.
void judge(ComparisonResult& result);

}  // namespace x_transformers
