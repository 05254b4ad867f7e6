// Numbers times one that is on the device, where they are, on CUDA.
#pragma once

#include <cuda_runtime_api.h>

#include "x_transformers/kernels/scale.h"

namespace x_transformers::kernels::cuda {

cudaError_t scale_in_place(const ScaleInPlace& params, cudaStream_t stream);

}  // namespace x_transformers::kernels::cuda
