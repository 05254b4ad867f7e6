// Rules out the less likely of each row's tokens, on CUDA.
#pragma once

#include <cuda_runtime_api.h>

#include "x_transformers/kernels/keep_likely.h"

namespace x_transformers::kernels::cuda {

/// The most logits of a row, on the current GPU.
int64_t keep_likely_most();

/// For params.dim <= keep_likely_most().
cudaError_t keep_likely(const KeepLikely& params, cudaStream_t stream);

}  // namespace x_transformers::kernels::cuda
