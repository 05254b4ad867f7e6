// What attention by squared relus (gated attention, arXiv:2202.10447) does to its scores, in
// float32 on the CPU.
#pragma once

#include <cstdint>

namespace x_transformers::kernels {

/// A bias of the scores, one row for each query. A row stride of -1 is a bias of distances: each
/// query's row begins one entry before that of the query before it.
struct SquaredReluBias {
  const float* data = nullptr;  ///< nullptr: none
  int64_t stride = 0;
  float scale = 1.0f;
};

/// Of products of queries and keys, relus of scale * product + bias.scale * bias, which are 0 for
/// hidden keys, and their squares, the weights.
struct SquaredReluForward {
  int64_t rows = 0;     ///< queries
  int64_t columns = 0;  ///< keys
  int64_t visible = 0;  ///< keys that the first query sees; with is_causal each next one sees one
                        ///< more
  bool is_causal = false;
  float scale = 1.0f;
  SquaredReluBias bias;
  float* scores = nullptr;  ///< products in, relus out
  int64_t scores_stride = 0;
  float* weights = nullptr;  ///< may be `scores`, which then holds the weights alone
  int64_t weights_stride = 0;
};

/// From relus and gradients of the weights.
struct SquaredReluBackward {
  int64_t rows = 0;
  int64_t columns = 0;
  float scale = 1.0f;
  const float* relus = nullptr;
  int64_t relus_stride = 0;
  float* weights = nullptr;  ///< out: squares of the relus
  float* grads = nullptr;    ///< gradients of the weights in, of the products out
  int64_t stride = 0;        ///< of weights and grads
  float bias_scale = 1.0f;
  float* bias_grad = nullptr;  ///< added to; nullptr: not wanted
  int64_t bias_stride = 0;     ///< as SquaredReluBias::stride
};

void squared_relu_forward(const SquaredReluForward& params);
void squared_relu_backward(const SquaredReluBackward& params);

}  // namespace x_transformers::kernels
