// What the gradient of attention's sinks is a sum of, on CUDA.
#pragma once

#include <cuda_runtime_api.h>

#include "x_transformers/kernels/sink_terms.h"

namespace x_transformers::kernels::cuda {

/// For 16 bits.
cudaError_t sink_terms(const SinkTerms& params, cudaStream_t stream);

}  // namespace x_transformers::kernels::cuda
