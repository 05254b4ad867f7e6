// Grouped heads: query head h uses key and value head h % (heads given).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace x_transformers {

/// t [b, some heads, n, d] repeated to `heads` heads; t itself where it has them.
at::Tensor repeat_heads(const at::Tensor& t, int64_t heads);

}  // namespace x_transformers
