// Cross entropy of rows of logits on CUDA: float32, bfloat16 and float16, sums in float32.
#pragma once

#include <cuda_runtime_api.h>

#include "x_transformers/kernels/cross_entropy.h"

namespace x_transformers::kernels::cuda {

cudaError_t cross_entropy(const CrossEntropyPass& params, cudaStream_t stream);

}  // namespace x_transformers::kernels::cuda
