// Parameters of a linear layer whose product adds a residual connection, on CUDA.
#pragma once

#include <cstdint>

#include "x_transformers/kernels/element.h"

namespace x_transformers::kernels {

/// out = residual + x weight^T + bias, of 16 bits, summed in float32 and rounded once. All dense.
struct LinearAdd {
  const void* x = nullptr;         ///< [rows, dim]
  const void* weight = nullptr;    ///< [dim_out, dim]
  const void* bias = nullptr;      ///< [dim_out]; nullptr: none
  const void* residual = nullptr;  ///< [rows, dim_out]
  void* out = nullptr;             ///< [rows, dim_out]
  Element element = Element::bfloat16;
  int64_t rows = 0, dim = 0, dim_out = 0;
};

}  // namespace x_transformers::kernels
