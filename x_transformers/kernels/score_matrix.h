// Parameters of our CUDA kernels on matrices of scores: what attention does to all scores of a
// query, or of all heads, at once.
#pragma once

#include <cstdint>

#include "x_transformers/kernels/element.h"

namespace x_transformers::kernels {

/// Scores [batch, heads, queries, keys], dense, and which of them are visible.
struct ScoreRows {
  Element element = Element::bfloat16;  ///< bfloat16 or float16
  int64_t batch = 0, heads = 0, queries = 0, keys = 0;
  int64_t first = 0;           ///< the key position of the first query, for causal and window
  bool causal = false;         ///< keys behind their query are hidden
  int64_t window = -1;         ///< most positions that a key may lie before its query; -1: any
  const bool* mask = nullptr;  ///< false: hidden; nullptr: none is
  int64_t mask_strides[4] = {0, 0, 0, 0};  ///< of entries, heads, queries, keys
};

/// weights = softmax(scores - gate) of what is visible, 0 elsewhere and where nothing is. Rows have
/// at most kMaxScoreKeys keys.
struct ScoreSoftmax {
  ScoreRows rows;
  const void* scores = nullptr;
  const void* gate = nullptr;        ///< the same for all heads; nullptr: 0
  int64_t gate_strides[2] = {0, 0};  ///< of entries, queries; keys are dense
  void* weights = nullptr;           ///< like scores
  /// [batch, heads, queries], in powers of 2: what the gradient's softmax is made of again.
  float* log_sum_exp = nullptr;
  /// More than 0: only the so many largest scores of a row, and what equals the smallest of them,
  /// get a weight.
  int64_t topk = 0;
  float* least = nullptr;  ///< [batch, heads, queries]: the least score with a weight, for topk
  bool straight_through = false;  ///< the gradient is that of all, not only of the largest

  // Backward: the gradient of scores, or minus that of each head's gate. It may be written over
  // that of the weights.
  const void* weights_grad = nullptr;
  void* scores_grad = nullptr;
};

inline constexpr int64_t kMaxScoreKeys = 16384;

/// to[o] = sum_h weights[o, h] from[h], and from[o] if `added`; sums in float32, of weights that
/// count to 16 bits of their mantissa. At most kMaxMixedHeads heads.
struct MixHeads {
  Element element = Element::bfloat16;  ///< bfloat16 or float16
  const void* from = nullptr;           ///< [batch, heads, positions], dense
  void* to = nullptr;                   ///< the same
  const float* weights = nullptr;       ///< [heads, heads]
  int64_t weight_strides[2] = {0, 0};   ///< of o, h: swapped for the gradient of `from`
  bool added = false;
  int64_t batch = 0, heads = 0, positions = 0;
};

/// The gradient of the weights: [o, h] is the sum over all positions of to_grad[o] from[h].
struct MixHeadsWeights {
  Element element = Element::bfloat16;
  const void* from = nullptr;
  const void* to_grad = nullptr;
  float* weights_grad = nullptr;  ///< [heads, heads]
  bool accumulates = false;       ///< it is added to what is there
  float* partial = nullptr;       ///< room: kMixedHeadsPartial floats
  int64_t batch = 0, heads = 0, positions = 0;
};

inline constexpr int64_t kMaxMixedHeads = 32;
inline constexpr int64_t kMixedHeadsPartial = 528 * kMaxMixedHeads * kMaxMixedHeads;

/// Contextual positions (arXiv:2405.18719): a key lies so far from its query as the sigmoids of
/// the visible scores from it on add up to, at most `positions` - 1, and its score gets what the
/// query's row of the table says there, linear between whole positions.
struct CountedPositions {
  ScoreRows rows;
  const void* scores = nullptr;
  const void* table = nullptr;  ///< [batch, heads, queries, positions], dense
  int64_t positions = 0;        ///< at most kMaxCountedPositions
  void* sums = nullptr;         ///< scores and what is added; hidden ones may be anything

  // Backward, given the gradient of the sums, which is 0 where hidden.
  const void* sums_grad = nullptr;
  void* scores_grad = nullptr;  ///< may be written over sums_grad
  void* table_grad = nullptr;
};

inline constexpr int64_t kMaxCountedPositions = 256;

/// What selective attention subtracts (arXiv:2410.02703): of key j and query i the sum over earlier
/// queries i' of relu(scores[i', j]), without the first key, i' itself and keys before `first`.
struct SelectiveGate {
  ScoreRows rows;  ///< of one head
  const void* scores = nullptr;
  void* gate = nullptr;  ///< like scores

  // Backward.
  const void* gate_grad = nullptr;
  void* scores_grad = nullptr;
};

}  // namespace x_transformers::kernels
