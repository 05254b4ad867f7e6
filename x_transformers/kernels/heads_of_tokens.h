// Queries, keys and values as kernels of attention take them.
#pragma once

#include <cstdint>

namespace x_transformers::kernels {

/// A tensor [batch, heads, length, dim] with dense features; strides in elements.
struct HeadsOfTokens {
  void* data = nullptr;
  int64_t strides[3] = {0, 0, 0};  ///< of entries, heads, positions
};

}  // namespace x_transformers::kernels
