// Where a run that goes on stands in its data.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "x_transformers/io/file_extent.h"
#include "x_transformers/runs/checkpoint_state.h"
#include "x_transformers/runs/checkpoint_tensors.h"

namespace x_transformers {

/// What a run trains on, as far as a resumed run has to know it.
struct TrainingData {
  /// Samples that a batch of all processes takes.
  int64_t batch_size = 1;
  /// Of a sample, in tokens; 1: an example; 0: not known.
  int64_t sample_length = 0;
  /// Hash of the data. Empty: not known, and not compared.
  std::string fingerprint = {};
  std::vector<FileExtent> files = {};
};

/// What has changed since a checkpoint was saved.
struct ResumedData {
  std::string folder = {};  ///< of the run, for messages
  /// The checkpoint's config.json.
  std::string saved_config = {};
  /// Of the run file's options (compare_configs).
  std::vector<ConfigChange> changes = {};
  /// Whether other data are meant.
  bool data_changed = false;
};

/// The change of the option at this path, or of one below it; null: there is none.
const ConfigChange* change_of(const OptionPath& option, const std::vector<ConfigChange>& changes);

/// The sample to go on from, and notes for the user about what is not as in a run that was never
/// interrupted. Batches of another size take the same samples in the same order, with nothing twice
/// or left out. Throws InputError that says what differs where the data are others than the
/// checkpoint's, unless `data_changed`, with which training goes on at their first sample.
int64_t resumed_sample(const TrainState& saved, const TrainingData& now, const ResumedData& resumed,
                       std::vector<Notice>& notes);

/// Whether validations look at other data than before, so that their losses cannot be compared.
bool validates_on_other_data(const TrainState& saved, const TrainingData& now,
                             const ResumedData& resumed);

}  // namespace x_transformers
