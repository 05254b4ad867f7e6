// What a checkpoint knows beside tensors: state.json.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "x_transformers/io/file_extent.h"

namespace x_transformers {

/// The states of the random number generators that training draws from, in base64.
struct RandomState {
  std::string cpu;
  std::optional<std::string> device;

  template <class Visitor>
  void fields(Visitor& v) {
    v("cpu", cpu, "state of the CPU generator, base64");
    v("device", device, "state of the generator of the training device, base64; null on the CPU");
  }
};

/// Where a run went on from a checkpoint and left later ones behind.
struct RunBranch {
  int64_t step = 0;
  int64_t number = 0;

  bool operator==(const RunBranch&) const = default;

  template <class Visitor>
  void fields(Visitor& v) {
    v("step", step, "of the checkpoint that the run went on from");
    v("number", number, "1, 2, ...: one for each time");
  }
};

/// Where a run stands.
struct TrainState {
  int64_t step = 0;
  int64_t samples = 0;
  int64_t sample_length = 0;
  /// In place of `samples` in older checkpoints; load_train_state keeps it as it is.
  std::optional<int64_t> data_position;
  std::string data_fingerprint;
  std::vector<FileExtent> data_files;
  int64_t targets = 0;
  double seconds = 0;
  int64_t skipped_steps = 0;
  int64_t evaluated_step = 0;
  int64_t evaluations_without_gain = 0;
  std::optional<double> best_val_loss;
  std::optional<int64_t> best_step;
  std::vector<RunBranch> branches;
  RandomState random;
  std::vector<RandomState> random_of_other_ranks;

  /// Whether the run came by `earlier` on its way here, or is it.
  bool came_by(const TrainState& earlier) const;

  /// That of `rank`; null where the run had fewer.
  const RandomState* random_of(int64_t rank) const;
  /// Takes the states of all ranks.
  void set_random(std::vector<RandomState> of_ranks);

  template <class Visitor>
  void fields(Visitor& v) {
    v("step", step, "updates done");
    v("samples", samples, "training samples taken: sequences or examples");
    v("sample_length", sample_length, "of a sample, in tokens; 1: an example; 0: not known");
    v("data_position", data_position, "training batches taken, in checkpoints without samples");
    v("data_fingerprint", data_fingerprint,
      "hash of the training data, where the program gave one");
    v("data_files", data_files, "of training and validation, where the program gave them");
    v("tokens", targets, "targets trained on: of text, tokens");
    v("seconds", seconds, "time spent in training steps");
    v("skipped_steps", skipped_steps,
      "updates passed over because a loss or gradient was not finite");
    v("evaluated_step", evaluated_step, "step of the last validation");
    v("evaluations_without_gain", evaluations_without_gain, "validations since the lowest loss");
    v("best_val_loss", best_val_loss, "lowest validation loss, nats a token");
    v("best_step", best_step, "its step");
    v("branches", branches, "where the run went back to a checkpoint, leaving later ones");
    v("random", random, "states of the random number generators");
    v("random_of_other_ranks", random_of_other_ranks,
      "those of the processes of rank 1, 2, ... that trained it too");
  }
};

/// Writes `state` as JSON. Throws RunError.
void save_train_state(const std::filesystem::path& path, const TrainState& state);
/// Throws InputError when the file is missing or no such state.
TrainState load_train_state(const std::filesystem::path& path);
/// The same of a checkpoint in its `folder`, which must be of `step`.
TrainState load_train_state(const std::filesystem::path& folder, int64_t step);

/// Base64 (RFC 4648) of a uint8 tensor, and back; throws InputError for text that is none.
std::string base64_encode(const at::Tensor& bytes);
at::Tensor base64_decode(const std::string& text);

}  // namespace x_transformers
