// Polar positions on CUDA.
#pragma once

#include <cuda_runtime_api.h>

#include "x_transformers/kernels/polar.h"

namespace x_transformers::kernels::cuda {

/// For 16 bits.
cudaError_t polar(const PolarPass& params, cudaStream_t stream);

}  // namespace x_transformers::kernels::cuda
