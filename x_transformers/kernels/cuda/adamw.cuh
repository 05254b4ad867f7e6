// AdamW's update of many weights on CUDA.
#pragma once

#include <cuda_runtime_api.h>

#include "x_transformers/kernels/adamw.h"

namespace x_transformers::kernels::cuda {

cudaError_t adamw(const AdamWStep& params, cudaStream_t stream);

}  // namespace x_transformers::kernels::cuda
