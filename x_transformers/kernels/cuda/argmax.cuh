// The maximum of each row.
#pragma once

#include <cuda_runtime_api.h>

#include "x_transformers/kernels/argmax.h"

namespace x_transformers::kernels::cuda {

cudaError_t argmax_of_rows(const ArgmaxOfRows& params, cudaStream_t stream);

}  // namespace x_transformers::kernels::cuda
