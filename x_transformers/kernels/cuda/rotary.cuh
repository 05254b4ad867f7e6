// Rotary position embedding on CUDA: float32, bfloat16 and float16, computed in float32.
#pragma once

#include <cuda_runtime_api.h>

#include "x_transformers/kernels/rotary.h"

namespace x_transformers::kernels::cuda {

cudaError_t rotary(const RotaryParams& params, cudaStream_t stream);

}  // namespace x_transformers::kernels::cuda
