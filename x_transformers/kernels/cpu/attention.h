// Attention on the CPU in blocks of queries and keys, float32. Nothing of the size queries x keys
// is ever stored.
#pragma once

#include <cstdint>

namespace x_transformers::kernels {

/// Most features of a query, key or value head.
constexpr int64_t kMostHeadFeatures = 256;

/// A tensor [batch, heads, rows, features] with strides in elements; features are dense.
template <class T>
struct HeadRows {
  T* data = nullptr;
  int64_t batch_stride = 0;
  int64_t head_stride = 0;
  int64_t row_stride = 0;

  T* row(int64_t batch, int64_t head, int64_t index) const {
    return data + batch * batch_stride + head * head_stride + index * row_stride;
  }
};

/// Query head h uses key/value head h % kv_heads; query i stands at key position i + keys -
/// queries.
struct AttentionShape {
  int64_t batch = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t queries = 0;
  int64_t keys = 0;
  int64_t dim = 0;
  int64_t value_dim = 0;
};

/// What is done to the scores q·k, in this order: scale, bias, ALiBi, softclamp, mask, causal mask.
struct AttentionScores {
  float scale = 1.0f;
  HeadRows<const float> bias;           ///< [batch, heads, queries, keys], data nullptr: none
  const float* alibi_slopes = nullptr;  ///< [heads]
  float softclamp = 0.0f;               ///< 0: none
  HeadRows<const uint8_t> mask;         ///< as bias; nonzero means attend
  bool causal = false;
};

struct AttentionForward {
  AttentionShape shape;
  AttentionScores scores;
  HeadRows<const float> q, k, v;
  HeadRows<float> out;
  float* log_sum_exp = nullptr;  ///< dense [batch, heads, queries], nullptr: not wanted
};

struct AttentionBackward {
  AttentionShape shape;
  AttentionScores scores;
  HeadRows<const float> q, k, v, out, out_grad;
  const float* log_sum_exp = nullptr;
  HeadRows<float> q_grad, k_grad, v_grad;
};

/// A query that may attend to no key gets output 0, log_sum_exp +inf and no gradient.
void attention_forward(const AttentionForward& params);
void attention_backward(const AttentionBackward& params);

}  // namespace x_transformers::kernels
