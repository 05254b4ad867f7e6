// Hyper-connections on CUDA: float32, bfloat16 and float16, computed in float32.
#pragma once

#include <cuda_runtime_api.h>

#include "x_transformers/kernels/hyper_connection.h"

namespace x_transformers::kernels::cuda {

/// dim <= kMaxHyperFeatures, streams <= kMaxHyperStreams, 1 or 3 views.
cudaError_t hyper_width_forward(const HyperWidth& params, cudaStream_t stream);
cudaError_t hyper_width_backward(const HyperWidthBackward& params, cudaStream_t stream);
cudaError_t hyper_depth_forward(const HyperDepth& params, cudaStream_t stream);
cudaError_t hyper_depth_backward(const HyperDepthBackward& params, cudaStream_t stream);

/// What `partial` of hyper_width_backward needs.
int64_t hyper_width_chunks(int64_t tokens);
int64_t hyper_width_columns(int64_t dim, int64_t streams, int64_t views);

}  // namespace x_transformers::kernels::cuda
