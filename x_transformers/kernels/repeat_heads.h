// Parameters of repeating heads on CUDA.
#pragma once

#include <cstdint>

#include "x_transformers/kernels/element.h"
#include "x_transformers/kernels/pass.h"

namespace x_transformers::kernels {

/// Forward: y[b, n, i, f] = x[b, n mod heads, i, f] for n below times * heads. Backward: x[b, n, i,
/// f] is the sum of y[b, n + r heads, i, f] over r, in float32. Strides, in elements, are those of
/// entries, heads and positions; features are dense.
struct RepeatHeads {
  const void* from = nullptr;  ///< forward x, backward y
  void* to = nullptr;
  Element element = Element::float32;
  int64_t from_strides[3] = {0, 0, 0};
  int64_t to_strides[3] = {0, 0, 0};
  Pass pass = Pass::forward;
  int64_t batch = 0;
  int64_t heads = 0;  ///< of x
  int64_t times = 0;
  int64_t length = 0;
  int64_t dim = 0;
};

}  // namespace x_transformers::kernels
