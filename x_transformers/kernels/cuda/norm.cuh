// Normalisation of rows on CUDA: float32, bfloat16 and float16, sums in float32.
#pragma once

#include <cuda_runtime_api.h>

#include "x_transformers/kernels/norm.h"

namespace x_transformers::kernels::cuda {

/// y = (x - mean) / sqrt(variance + epsilon) * gain. The gain is not shared; dim <=
/// kMaxCudaNormFeatures.
cudaError_t layer_norm_forward(const NormForward& params, cudaStream_t stream);
cudaError_t layer_norm_backward(const NormBackward& params, cudaStream_t stream);

/// y = x / max(|x|, epsilon) * scale * gain. The gain is not shared; dim <= kMaxCudaNormFeatures.
cudaError_t l2_norm_forward(const NormForward& params, cudaStream_t stream);
cudaError_t l2_norm_backward(const NormBackward& params, cudaStream_t stream);

/// The `chunks` that the backward passes want: so many blocks go over the rows, each of which has
/// several. 0 where there is a group of threads for each row: then blocks of their own sum the
/// gradient of the gain, and there is nothing to add up afterwards.
int64_t norm_chunks(int64_t rows, int64_t dim);

}  // namespace x_transformers::kernels::cuda
