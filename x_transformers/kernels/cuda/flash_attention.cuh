// Launchers of attention without a matrix of scores.
#pragma once

#include <cuda_runtime_api.h>

#include "x_transformers/kernels/flash_attention.h"

namespace x_transformers::kernels::cuda {

/// sums[batch, heads, rows] = factor * sum over dim of a * b, dense features of at most
/// kMaxFlashFeatures.
struct RowProducts {
  Element element = Element::bfloat16;
  HeadsOfTokens a, b;
  int64_t batch = 0, heads = 0, rows = 0, dim = 0;
  float factor = 1;
  float* sums = nullptr;
};
cudaError_t row_products(const RowProducts& params, cudaStream_t stream);
/// Fills the squares, where there is room for them, and makes them the biases.
cudaError_t add_squares(FlashAttention& params, cudaStream_t stream);

cudaError_t flash_attention_forward(const FlashAttention& params, cudaStream_t stream);
cudaError_t flash_attention_backward(const FlashAttention& params, cudaStream_t stream);
/// How many floats `partial` must have room for.
int64_t flash_attention_partial(const FlashAttention& params);

}  // namespace x_transformers::kernels::cuda
