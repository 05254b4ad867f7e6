// Launchers of attention without a matrix of scores.
#pragma once

#include <cuda_runtime_api.h>

#include "x_transformers/kernels/flash_attention.h"

namespace x_transformers::kernels::cuda {

cudaError_t flash_attention_forward(const FlashAttention& params, cudaStream_t stream);
cudaError_t flash_attention_backward(const FlashAttention& params, cudaStream_t stream);
/// How many floats `partial` must have room for.
int64_t flash_attention_partial(const FlashAttention& params);

}  // namespace x_transformers::kernels::cuda
