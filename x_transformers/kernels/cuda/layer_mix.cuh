// Mixes of the outputs of layers on CUDA: float32, bfloat16 and float16, sums in float32.
#pragma once

#include <cuda_runtime_api.h>

#include "x_transformers/kernels/layer_mix.h"

namespace x_transformers::kernels::cuda {

cudaError_t layer_mix_forward(const LayerMix& params, cudaStream_t stream);
cudaError_t layer_mix_backward(const LayerMixBackward& params, cudaStream_t stream);
cudaError_t layer_mix_gather(const LayerMixGather& params, cudaStream_t stream);

}  // namespace x_transformers::kernels::cuda
