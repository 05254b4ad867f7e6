// Launchers of the kernels on matrices of scores (kernels/score_matrix.h).
#pragma once

#include <cuda_runtime_api.h>

#include "x_transformers/kernels/score_matrix.h"

namespace x_transformers::kernels::cuda {

cudaError_t score_softmax_forward(const ScoreSoftmax& params, cudaStream_t stream);
cudaError_t score_softmax_backward(const ScoreSoftmax& params, cudaStream_t stream);
cudaError_t mix_heads(const MixHeads& params, cudaStream_t stream);
cudaError_t mix_heads_weights(const MixHeadsWeights& params, cudaStream_t stream);
cudaError_t counted_positions_forward(const CountedPositions& params, cudaStream_t stream);
cudaError_t counted_positions_backward(const CountedPositions& params, cudaStream_t stream);
cudaError_t selective_gate_forward(const SelectiveGate& params, cudaStream_t stream);
cudaError_t selective_gate_backward(const SelectiveGate& params, cudaStream_t stream);

}  // namespace x_transformers::kernels::cuda
