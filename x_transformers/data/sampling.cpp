#include "x_transformers/data/sampling.h"

#include <fmt/format.h>

#include <algorithm>

#include "x_transformers/core/error.h"

namespace x_transformers {

BatchShare share_of(int64_t rows, const WorldPlace& place) {
  require(place.world >= 1 && place.rank >= 0 && place.rank < place.world,
          fmt::format("rank {} of {} processes: expected a rank below their number", place.rank,
                      place.world));
  return {place.rank * rows, rows, place.world * rows};
}

int64_t SampleOrder::place(int64_t index) const {
  const auto at = static_cast<uint64_t>(index);
  if (!epochs_) return static_cast<int64_t>(random_index(random_bits(seed_, at), size_));
  const auto key = random_bits(seed_, 2 * (at / size_) + 1);
  return static_cast<int64_t>(permuted_index(at % size_, size_, key));
}

int64_t validation_samples(int64_t val_batches, int64_t size) {
  const bool is_part = val_batches > 0 && val_batches <= size / kValidationBatch;
  return is_part ? val_batches * kValidationBatch : size;
}

ValidationBatches::Span ValidationBatches::batch(int64_t index) const {
  require(index >= 0 && index < count(),
          fmt::format("validation batch {} asked for, there are {}", index, count()));
  const int64_t first = index * batch_size_;
  return {first, std::min(batch_size_, samples_ - first)};
}

int64_t evenly_spaced(int64_t index, int64_t count, int64_t size) {
  // index * (size - 1) / gaps, computed without overflow.
  const int64_t last = size - 1, gaps = std::max<int64_t>(count - 1, 1);
  return index * (last / gaps) + index * (last % gaps) / gaps;
}

}  // namespace x_transformers
