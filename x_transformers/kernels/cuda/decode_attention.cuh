// Attention of one query on a static cache, on CUDA: bfloat16 and float16.
#pragma once

#include <cuda_runtime_api.h>

#include "x_transformers/kernels/decode_attention.h"

namespace x_transformers::kernels::cuda {

cudaError_t decode_attention(const DecodeAttention& params, cudaStream_t stream);

}  // namespace x_transformers::kernels::cuda
