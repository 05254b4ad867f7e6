// Several scaled and moved copies of the same features, on CUDA.
#pragma once

#include <cuda_runtime_api.h>

#include "x_transformers/kernels/offset_scale.h"

namespace x_transformers::kernels::cuda {

cudaError_t offset_scale(const OffsetScale& params, cudaStream_t stream);
cudaError_t offset_scale_gradients(const OffsetScaleGradients& params, cudaStream_t stream);

}  // namespace x_transformers::kernels::cuda
