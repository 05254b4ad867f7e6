// Parameters of our CUDA kernels of attention without a matrix of scores (arXiv:2205.14135), with
// biases and normalisers that cuDNN's and LibTorch's do not have.
#pragma once

#include <cstdint>

#include "x_transformers/kernels/element.h"
#include "x_transformers/kernels/heads_of_tokens.h"

namespace x_transformers::kernels {

/// Weights of a query: softmax(scores), sigmoid(scores), or softmax(|scores|) times their signs.
enum class FlashNormaliser { softmax, sigmoid, cog_signed };

/// out = normaliser(stages(q k^T * scale)) v, the stages in this order: biases, softclamp, masks,
/// sink. Queries stand at the last key positions. A query that sees nothing gets 0. Where it says
/// "binary", numbers are those of scores times log2(e), as the kernels use powers of 2.
struct FlashAttention {
  Element element = Element::bfloat16;  ///< bfloat16 or float16
  FlashNormaliser normaliser = FlashNormaliser::softmax;
  /// Features: of a head's query and key, and of its value; at most kMaxFlashFeatures, multiples
  /// of 8.
  int64_t batch = 0, heads = 0, queries = 0, keys = 0, dim = 0, value_dim = 0;
  HeadsOfTokens q, k, v, out;
  float* log_sum_exp =
      nullptr;  ///< [batch, heads, queries], binary; infinite where nothing is seen

  float scale = 1;  ///< more than 0
  bool causal = false;
  int64_t window = -1;                     ///< most positions that a key may lie back; -1: any
  const bool* mask = nullptr;              ///< true: may be seen; nullptr: all
  int64_t mask_strides[4] = {0, 0, 0, 0};  ///< of entries, heads, queries, keys
  float softclamp = 0;                     ///< bound * tanh(scores / bound); 0: none
  const float* sink = nullptr;             ///< [heads], binary: of one key more, for softmax
  int64_t front = 0;                       ///< so many keys in front have none of these biases:
  const float* slopes = nullptr;           ///< [heads], of minus the distance
  const float* distance_bias = nullptr;    ///< [heads, distances], binary; of key minus query place
  int64_t distances = 0, zero = 0;         ///< how many, and which of them is no distance
  const float* query_bias = nullptr;       ///< [batch, heads, queries], binary
  const float* key_bias = nullptr;         ///< [batch, heads, keys], binary

  // Backward: what out_grad makes of q, k, v and the biases (those are not binary).
  HeadsOfTokens out_grad, q_grad, k_grad, v_grad;
  float* along = nullptr;               ///< [batch, heads, queries]: sums of out * out_grad
  float* distance_bias_grad = nullptr;  ///< [heads, distances]
  float* partial = nullptr;             ///< room for it: flash_attention_partial(params) floats
  float* query_bias_grad = nullptr;     ///< [batch, heads, queries]
  float* key_bias_grad = nullptr;       ///< [batch, heads, keys]

  /// Room [batch, heads, queries] and [batch, heads, keys] for what q and k add as query_bias and
  /// key_bias: minus half the scale times their squares, whose gradients go to those of q and k.
  float *query_squares = nullptr, *key_squares = nullptr;
};

inline constexpr int64_t kMaxFlashFeatures = 128;

}  // namespace x_transformers::kernels
