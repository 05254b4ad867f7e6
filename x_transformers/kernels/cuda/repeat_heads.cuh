// Heads repeated, and the sum over what was repeated, on CUDA.
#pragma once

#include <cuda_runtime_api.h>

#include "x_transformers/kernels/repeat_heads.h"

namespace x_transformers::kernels::cuda {

cudaError_t repeat_heads(const RepeatHeads& params, cudaStream_t stream);

}  // namespace x_transformers::kernels::cuda
