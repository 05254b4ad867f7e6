// Rotary position embedding on the CPU.
#pragma once

#include "x_transformers/kernels/rotary.h"

namespace x_transformers::kernels {

/// Most features of a head that can be rotated.
constexpr int64_t kMaxRotated = 1024;

void rotary(const RotaryParams& params);

}  // namespace x_transformers::kernels
