// Parameters of the maximum of each row, on CUDA.
#pragma once

#include <cstdint>

#include "x_transformers/kernels/element.h"

namespace x_transformers::kernels {

/// Where the maximum of each row of dense x [rows, dim] is, the first of equal ones. NaN is
/// greater than any number. dim is 1 to 2^31 - 1.
struct ArgmaxOfRows {
  const void* x = nullptr;
  Element element = Element::float32;
  int64_t* out = nullptr;  ///< [rows]
  int64_t rows = 0;
  int64_t dim = 0;
};

}  // namespace x_transformers::kernels
