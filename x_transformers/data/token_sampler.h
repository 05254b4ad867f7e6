// Batches of sequences, drawn from a row of tokens.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "x_transformers/core/world_place.h"
#include "x_transformers/data/data_options.h"
#include "x_transformers/data/sampling.h"
#include "x_transformers/data/token_dataset.h"

namespace x_transformers {

/// Draws the sequences to train on. The k-th sequence of a run depends on the seed and k alone:
/// there is no state, so sequence k can be asked for at once after a restart, with any number of
/// threads.
class BatchSampler {
 public:
  /// Uses `seq_len`, `batch_size`, `order` and `seed`. Throws InputError when `data` is shorter
  /// than one sequence and its last target.
  BatchSampler(TokenDataset data, const DataOptions& options, const WorldPlace& place = {});

  /// Sequences of a batch of all processes: `batch_size` of each.
  int64_t batch_size() const { return share_.total; }
  int64_t seq_len() const { return seq_len_; }

  /// This process's share of the batch that begins with sequence `first` of the run: int64
  /// `[batch_size, seq_len + 1]`. The shares by rank, one after the other, are the batch that one
  /// process gets with a `batch_size` of them all.
  at::Tensor batch(int64_t first) const { return sequences(first + share_.first, share_.count); }

  /// Sequences [first, first + count) of the run: int64 `[count, seq_len + 1]`. For batches that
  /// are accumulated in parts.
  at::Tensor sequences(int64_t first, int64_t count) const;

  /// Sequences of one epoch: how often seq_len goes into the tokens.
  int64_t epoch_size() const { return windows_; }

 private:
  int64_t offset(int64_t sequence) const;

  TokenDataset data_;
  BatchShare share_;
  int64_t seq_len_;
  uint64_t seed_;
  bool epochs_;
  int64_t windows_;
  SampleOrder order_;  // of windows in an epoch, else of places
};

/// The sequences to validate on: always the same ones, spaced evenly and without overlap, in
/// batches of any size.
class ValidationSampler {
 public:
  /// Uses `seq_len`, `batch_size` and `val_batches`. Throws InputError when `data` is too short.
  ValidationSampler(TokenDataset data, const DataOptions& options);

  int64_t batches() const { return batches_.count(); }

  /// Batch `index`: int64 `[batch_size, seq_len + 1]`; the last one may have fewer rows.
  at::Tensor batch(int64_t index) const;

 private:
  TokenDataset data_;
  int64_t seq_len_;
  ValidationBatches batches_;
};

}  // namespace x_transformers
