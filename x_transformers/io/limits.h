// What files may ask of us.
#pragma once

#include <cstddef>

namespace x_transformers {

/// Tensors of more dimensions are refused: the tensor iterator of ATen takes no more.
inline constexpr std::size_t kMaxDimensions = 64;

}  // namespace x_transformers
