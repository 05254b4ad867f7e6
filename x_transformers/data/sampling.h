// Which sample comes when: orders, shares and even spacing, for data of every kind.
#pragma once

#include <cstdint>

#include "x_transformers/core/world_place.h"
#include "x_transformers/data/random.h"

namespace x_transformers {

/// A process's rows of a batch of all processes: `count` of its `total` rows, from row `first` on.
struct BatchShare {
  int64_t first = 0, count = 0, total = 0;
};

/// The share at `place` of a batch to which each process adds `rows`. Throws InputError for a rank
/// that is not among the processes.
BatchShare share_of(int64_t rows, const WorldPlace& place);

/// Draws one of `size` samples for each index of a run. With `epochs` each comes once before any
/// comes again; else each draw is from all of them. The k-th depends on the seed and k alone.
class SampleOrder {
 public:
  SampleOrder(int64_t size, bool epochs, uint64_t seed)
      : size_(static_cast<uint64_t>(size)), epochs_(epochs), seed_(seed) {}

  /// The sample that is drawn at `index`, from 0.
  int64_t place(int64_t index) const;

 private:
  uint64_t size_;
  bool epochs_;
  uint64_t seed_;
};

/// What data.val_batches counts: sequences or examples, whatever data.batch_size is.
inline constexpr int64_t kValidationBatch = 16;

/// How many of `size` samples a validation looks at: data.val_batches of kValidationBatch, or all
/// where there are no more, or it is 0.
int64_t validation_samples(int64_t val_batches, int64_t size);

/// The samples that a validation looks at, in batches of which the last may be smaller.
class ValidationBatches {
 public:
  struct Span {
    int64_t first = 0, count = 0;
  };

  ValidationBatches() = default;  ///< none
  ValidationBatches(int64_t samples, int64_t batch_size)
      : samples_(samples), batch_size_(batch_size) {}

  int64_t samples() const { return samples_; }
  int64_t count() const { return (samples_ + batch_size_ - 1) / batch_size_; }
  /// The samples of a batch. Throws InputError for one that there is not.
  Span batch(int64_t index) const;

 private:
  int64_t samples_ = 0, batch_size_ = 1;
};

/// Where the `index`-th of `count` <= `size` samples lies that are spaced evenly over `size`, from
/// the first to the last.
int64_t evenly_spaced(int64_t index, int64_t count, int64_t size);

}  // namespace x_transformers
