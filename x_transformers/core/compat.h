// Whose numbers a model has: the release of Python's x-transformers that its options and weights
// mean.
#pragma once

#include <string>
#include <vector>

#include "x_transformers/core/notice.h"

namespace x_transformers {

/// What releases of Python's x-transformers do in different ways. A module that one of these
/// concerns reads its value, and never asks for the release; python_differences() has all of them
/// in words.
struct PythonMeaning {
  /// max_mem_len = 0 keeps all memories, and not none.
  bool zero_max_mem_len_keeps_all = true;
  /// average_pool_embed of ContinuousTransformerWrapper, where nothing projects it, gives one
  /// number a row, the sum of the mean vector.
  bool continuous_pool_sums_features = true;
  /// With qk_norm_dim_scale scores are multiplied by qk_norm_scale too, and not by dim_head **
  /// -0.5.
  bool dim_scale_keeps_qk_norm_scale = true;
  /// Memory keys are normalised as one, and not in qk_norm_groups groups.
  bool memory_keys_are_one_group = true;
  /// Logits that the table of the embeddings makes are multiplied by dim ** -0.5.
  bool tied_logits_are_scaled = false;
  /// The gates of gate_values have a bias, and are open at the start; else half open.
  bool value_gates_have_a_bias = true;
  /// Attention of one head projects its values, also where their width is that of the output.
  bool single_heads_are_projected = true;
  /// The loss of XLAutoregressiveWrapper is a mean over all targets of a segment, and not over the
  /// means of its rows.
  bool xl_loss_weighs_rows_by_targets = true;
  /// With python_quirks generate of XLAutoregressiveWrapper keeps its cache from one segment to the
  /// next, and does not compute a segment anew where it ends; what comes after an eos is padded,
  /// and not what comes before it.
  bool xl_generation_keeps_its_cache = true;
  /// A model that recycles does not scale its feed-forwards by ff_deep_embed.
  bool recycling_leaves_deep_embeds_out = true;
  /// return_intermediates has what each block gives, and the embeddings at the start.
  bool block_hiddens_are_returned = false;
};

/// A row of the table.
struct PythonDifference {
  bool PythonMeaning::*value;
  Text if_true;   ///< what an option means: "0 keeps all memories"
  Text if_false;  ///< the same
};

/// All rows.
const std::vector<PythonDifference>& python_differences();

/// The releases that the table has a column of, oldest first.
enum class PythonRelease {
  v2_16_1,
  v2_31_10  ///< what 2.16.1 has, as it is there; what came later is not built yet
};

/// A row that gives a module its numbers, and the option by which it does.
struct MeaningRead {
  bool PythonMeaning::*value;
  OptionPath option;
};

/// A module whose numbers depend on rows of the table.
class MeaningReader {
 public:
  virtual ~MeaningReader() = default;
  /// The rows that it reads with its options.
  virtual std::vector<MeaningRead> meanings_read() const = 0;
};

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

/// All of them, oldest first.
std::vector<PythonRelease> python_releases();
/// Their names, as in "2.16.1".
std::vector<std::string> release_names();
std::string name_of(PythonRelease release);
const PythonMeaning& meaning_of(PythonRelease release);

/// Throws InputError, naming `where`, unless there is such a release.
PythonRelease release_named(const std::string& name, const OptionPath& where);

}  // namespace x_transformers
