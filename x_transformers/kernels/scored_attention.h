// Parameters of attention with a score program, by cuDNN's fused kernels.
#pragma once

#include <cstdint>

#include "x_transformers/kernels/element.h"
#include "x_transformers/kernels/heads_of_tokens.h"

namespace x_transformers::kernels {

/// out = softmax(stages(q k^T * scale)) v, the stages in this order: slopes, softclamp, causal and
/// window, sink. Backward: what out_grad makes of q, k and v.
struct ScoredAttention {
  bool backwards = false;
  Element element = Element::bfloat16;  ///< bfloat16 or float16
  int64_t batch = 0, heads = 0, queries = 0, keys = 0, dim = 0;
  HeadsOfTokens q, k, v, out;
  HeadsOfTokens out_grad, q_grad, k_grad, v_grad;  ///< backward only
  float* log_sum_exp = nullptr;                    ///< [batch, heads, queries], of the sink as well

  float scale = 1;
  bool causal = false;            ///< queries stand at the last key positions
  int64_t window = -1;            ///< most positions that a key may lie back; -1: any
  float softclamp = 0;            ///< bound * tanh(scores / bound); 0: none
  const float* slopes = nullptr;  ///< [heads], of minus the distance; nullptr: none
  const float* sink = nullptr;    ///< [heads], the score of one key more; nullptr: none

  void* workspace = nullptr;
};

}  // namespace x_transformers::kernels
