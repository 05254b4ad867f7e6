// What a training step takes.
#pragma once

#include <cstdint>

#include "x_transformers/io/tensor_map.h"

namespace x_transformers {

/// Named tensors, as the model's loss takes them, and how many targets the mean of that loss is
/// over. Batches whose numbers of targets differ weigh accordingly in a step and in a validation.
struct Batch {
  TensorMap tensors = {};
  int64_t targets = 0;  ///< those that count: an ignored or masked target does not
};

}  // namespace x_transformers
