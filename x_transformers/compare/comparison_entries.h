// What is compared: the base and its variants as runs that can be trained.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "x_transformers/compare/comparison.h"
#include "x_transformers/core/loss_unit.h"
#include "x_transformers/core/notice.h"

namespace x_transformers {

/// The base or a variant, in work.
struct ComparisonEntry {
  VariantResult result;
  Json run;
  std::string folder;  ///< of its runs, in that of all runs
  OptionPath where;    ///< in messages
  bool may_be_refused = false;
  std::optional<int64_t> seq_len;  ///< tokens of a sequence; absent: it learns from examples
  LossUnit loss_unit;
};

struct ComparisonEntries {
  ComparisonEntry base;
  std::vector<ComparisonEntry> variants;
};

/// Checks every run and finds out what its model is made of. Variants that a rule made and that
/// cannot be run have a failure. Throws InputError for a base or a variant of the user's that
/// cannot.
ComparisonEntries make_entries(const ComparisonOptions& options,
                               const std::function<void(const std::string& line)>& message);

}  // namespace x_transformers
