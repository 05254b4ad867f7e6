// The target that losses pass over.
#pragma once

#include <cstdint>

namespace x_transformers {

/// Stands among targets where there is none, if no option says otherwise: PyTorch's ignore_index.
inline constexpr int64_t kIgnoredTarget = -100;

}  // namespace x_transformers
