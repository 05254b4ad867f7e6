// Activations and gated linear units on CUDA: float32, bfloat16 and float16, computed in float32.
#pragma once

#include <cuda_runtime_api.h>

#include "x_transformers/kernels/activation.h"

namespace x_transformers::kernels::cuda {

cudaError_t activation_forward(const ActivationForward& params, cudaStream_t stream);
cudaError_t activation_backward(const ActivationBackward& params, cudaStream_t stream);

/// The `chunks` that activation_backward wants where a gradient of the bias is asked for.
int64_t activation_chunks(int64_t rows, int64_t dim);

}  // namespace x_transformers::kernels::cuda
