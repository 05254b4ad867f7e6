// What stands between the products of attention in groups, on CUDA.
#pragma once

#include <cuda_runtime_api.h>

#include "x_transformers/kernels/group_attention.h"

namespace x_transformers::kernels::cuda {

cudaError_t group_weights(const GroupWeights& params, cudaStream_t stream);
cudaError_t group_weights_backward(const GroupWeightsBackward& params, cudaStream_t stream);
/// How many rows of bias_grad there are for each matrix.
int64_t group_weights_chunks(int64_t size);
cudaError_t sums_of_others(const SumsOfOthers& params, cudaStream_t stream);
cudaError_t gate_rows(const GateRows& params, cudaStream_t stream);

}  // namespace x_transformers::kernels::cuda
