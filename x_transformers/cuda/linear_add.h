// A linear layer that adds its residual connection, by cuBLASLt.
#pragma once

#include "x_transformers/kernels/linear_add.h"

namespace x_transformers::kernels::cuda {

/// Whether cuBLASLt has a way for these sizes, alignments and types. What it names first is kept.
bool can_add_linear(const LinearAdd& params, int8_t device);
void linear_add(const LinearAdd& params, int8_t device);

}  // namespace x_transformers::kernels::cuda
