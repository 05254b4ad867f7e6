// Linear layers of a few rows on CUDA.
#pragma once

#include <cuda_runtime_api.h>

#include "x_transformers/kernels/few_rows.h"

namespace x_transformers::kernels::cuda {

cudaError_t linear_few_rows(const FewRowsOfLayers& params, cudaStream_t stream);

}  // namespace x_transformers::kernels::cuda
