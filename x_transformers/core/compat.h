// Whose numbers a model has: the release of Python's x-transformers that its options and weights
// mean.
#pragma once

#include <string>
#include <vector>

#include "x_transformers/core/notice.h"

namespace x_transformers {

/// What releases of Python's x-transformers do in different ways. A module that one of these
/// concerns reads its value, and never asks for the release.
struct PythonMeaning {
  /// max_mem_len = 0 keeps all memories, and not none.
  bool zero_max_mem_len_keeps_all = true;
  /// average_pool_embed of ContinuousTransformerWrapper, where nothing projects it, gives one
  /// number a row, the sum of the mean vector.
  bool continuous_pool_sums_features = true;
};

/// The releases that there is a meaning of, oldest first.
enum class PythonRelease { v2_16_1 };

/// The two keys that a model file has beside those of its type, as values. They hold for the whole
/// file.
struct Compat {
  PythonRelease xt_compat = PythonRelease::v2_16_1;
  /// Whether numbers are Python's where Python is plainly wrong, and not what is meant. Some are
  /// Python's either way, as models have been trained with them (orthog_projected_values_per_head
  /// projects all heads at once); docs/python-to-cpp.md lists both.
  bool python_quirks = false;

  /// What the release means.
  const PythonMeaning& meaning() const;
  bool operator==(const Compat&) const = default;
};

/// Names as in "2.16.1".
std::vector<std::string> release_names();
std::string name_of(PythonRelease release);

/// Throws InputError, naming `where`, unless there is such a release.
PythonRelease release_named(const std::string& name, const OptionPath& where);

}  // namespace x_transformers
