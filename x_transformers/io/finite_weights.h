// Weights that are numbers, and no NaN or infinity.
#pragma once

#include <filesystem>

#include "x_transformers/io/tensor_map.h"

namespace x_transformers {

/// Throws InputError for the first of `weights`, which come from the file `path`, that holds NaN or
/// an infinity: names the file, the tensor, what it holds and where. Reads them all, once.
void require_finite(const TensorMap& weights, const std::filesystem::path& path);

}  // namespace x_transformers
