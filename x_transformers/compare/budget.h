// How long each variant of a comparison trains.
#pragma once

#include <string>

namespace x_transformers {

enum class BudgetUnit { kRunFile, kSteps, kTokens, kSeconds, kFlops };

/// The same for each variant: a number of steps, tokens trained on, seconds of training (start-up
/// and validation left out), or FLOPs of training (three times those of forward passes). kRunFile:
/// the steps of the run file.
struct Budget {
  BudgetUnit unit = BudgetUnit::kRunFile;
  double amount = 0;
};

/// 500steps, 20Mtok (tok, ktok, Mtok, Gtok), 10min (s, min, h), 2PFLOP (GFLOP, TFLOP, PFLOP);
/// empty: the run file's. Throws InputError about --budget.
Budget parse_budget(const std::string& text);

/// In words: "500 steps", "20 M tokens", "600 s of training"; of kRunFile: "the run file's steps".
std::string words_of(const Budget& budget);

}  // namespace x_transformers
