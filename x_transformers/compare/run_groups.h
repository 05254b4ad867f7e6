// Runs that were made before, beside each other.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "x_transformers/compare/comparison.h"
#include "x_transformers/compare/pictures.h"

namespace x_transformers {

/// Folders of runs, judged as run_comparison judges its own: runs that differ in their seeds alone
/// are one variant, and those like the first one are the base. Throws InputError: a folder without
/// a run, and runs of different data, tokenizer or evaluation.
ComparisonResult compare_runs(const std::vector<std::filesystem::path>& runs);

/// How curves of runs are drawn.
struct RunCurvesOptions {
  std::string x = "steps";   ///< steps, seconds or tokens
  bool of_training = false;  ///< the loss of training batches in place of validation
  double smoothing = 0;      ///< width of a moving average, as a share of the run
};

/// A curve a run. Runs without validation have that of training. Throws InputError.
CurvesPicture run_curves(const std::vector<std::filesystem::path>& runs,
                         const RunCurvesOptions& options);

}  // namespace x_transformers
