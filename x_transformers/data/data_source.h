// Where batches come from: the interface between what a run trains on and what trains.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "x_transformers/core/loss_inputs.h"
#include "x_transformers/core/world_place.h"
#include "x_transformers/data/batch.h"
#include "x_transformers/data/data_options.h"
#include "x_transformers/data/tokenizer.h"
#include "x_transformers/io/file_extent.h"

namespace x_transformers {

/// The data of a run, as batches on the CPU. Training takes samples (sequences of tokens, examples)
/// in an order without an end; which sample comes k-th depends on the options and k alone, and not
/// on the size of batches. There is no state, so a run goes on at any sample. Safe to use from
/// several threads.
class DataSource {
 public:
  virtual ~DataSource() = default;

  /// Samples of a training batch, of all processes together.
  virtual int64_t batch_size() const = 0;
  /// What a sample is long, in tokens; 1: an example.
  virtual int64_t sample_length() const { return 1; }
  /// This process's share of the training batch that begins with sample `first` of the run, from 0.
  /// The shares of all processes, by rank, are the batch that one process alone would get with a
  /// data.batch_size of them all.
  virtual Batch training_batch(int64_t first) const = 0;

  /// Batches of one validation; 0: there is no validation data.
  virtual int64_t validation_batches() const = 0;
  /// Batch `index` of a validation, the same for each validation and each process.
  virtual Batch validation_batch(int64_t index) const = 0;

  /// Tokens of training and validation; nothing: the data are bytes or no tokens.
  virtual std::optional<int64_t> tokens() const { return std::nullopt; }
  /// A hash of the training data, by which a run that goes on notices other data.
  virtual std::string fingerprint() const = 0;
  /// What the targets of a batch are, in reports: "tokens" or "examples".
  virtual std::string target_unit() const = 0;

  /// Null where the data are not of text, or nobody says how it became tokens.
  virtual std::shared_ptr<const Tokenizer> tokenizer() const { return nullptr; }
  /// Bytes of text that a target stands for; turns nats per token into bits per byte.
  virtual std::optional<double> bytes_per_token() const { return std::nullopt; }
};

/// What opening data takes beside the options.
struct DataContext {
  int64_t num_tokens = 0;  ///< of the model; data of tokens must stay below it
  /// Where text is kept as tokens for the next time (token_cache.h); empty: nowhere.
  std::filesystem::path token_folder = {};
  WorldPlace place = {};
  /// What the model's loss takes of a batch that has tensors of these names; empty: it is not
  /// known.
  std::function<LossInputs(const std::set<std::string>& names)> loss_inputs = {};
};

/// Opens the data that `options` describe. Throws InputError naming the option or the file.
std::shared_ptr<const DataSource> open_data_source(const DataOptions& options,
                                                   const DataContext& context);

/// The files of training and, where it has its own, of validation; none where the data are made up.
std::vector<FileExtent> data_files(const DataOptions& options);

/// Throws InputError where the files of a run in `directory` would be read as its own data.
void require_outside_data(const std::filesystem::path& directory, const DataOptions& options);

}  // namespace x_transformers
