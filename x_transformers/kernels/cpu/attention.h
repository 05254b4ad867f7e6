// Attention on the CPU in blocks of queries and keys, float32. Nothing of the size queries x keys
// is stored but what is asked for: the gradient of a bias.
#pragma once

#include <cstdint>

namespace x_transformers::kernels {

/// Most features of a query, key or value head.
constexpr int64_t kMaxHeadFeatures = 256;

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

/// What is done to the scores q·k, in the order of the members, and how they become weights.
struct AttentionScores {
  float scale = 1.0f;
  HeadRows<const float> bias;           ///< [batch, heads, queries, keys], data nullptr: none
  const float* alibi_slopes = nullptr;  ///< [heads]
  float softclamp = 0.0f;               ///< 0: none
  bool cog_signed = false;       ///< weights of |score|, which then get the sign of the score
  HeadRows<const uint8_t> mask;  ///< as bias; nonzero means attend
  bool causal = false;
  const float* sinks = nullptr;  ///< [heads]: score of a key without value, in every softmax
  bool gumbel = false;           ///< Gumbel noise is added; takes no sinks and no cog_signed
  float temperature = 1.0f;      ///< of the softmax with Gumbel noise
  bool sigmoid = false;          ///< weights are sigmoids, not a softmax; takes no sinks
  bool hard = false;     ///< weight 1 for the maximum score; the gradient is that of the softmax
  double dropout = 0.0;  ///< a weight becomes 0 with this probability, else grows by 1/(1-p)
  uint64_t seed = 0;     ///< of noise and dropout, which are functions of this and of the place
};

/// The softmax of one query: its weights are exp(score - maximum) * inverse. Kept apart, as the
/// logarithm of the sum is lost beside a large score. Without keys {+inf, 0}; of no meaning with
/// sigmoid.
struct SoftmaxState {
  float maximum = 0.0f;
  float inverse = 0.0f;
};

struct AttentionForward {
  AttentionShape shape;
  AttentionScores scores;
  HeadRows<const float> q, k, v;
  HeadRows<float> out;
  SoftmaxState* softmax = nullptr;  ///< dense [batch, heads, queries], nullptr: not wanted
  /// With hard, what the backward needs; nullptr: not wanted.
  HeadRows<float> soft_out;   ///< the output that the softmax would have
  int32_t* chosen = nullptr;  ///< dense [batch, heads, queries]: the key, -1 for none
};

struct AttentionBackward {
  AttentionShape shape;
  AttentionScores scores;
  HeadRows<const float> q, k, v, out, out_grad;  ///< with hard, out is soft_out
  const SoftmaxState* softmax = nullptr;
  const int32_t* chosen = nullptr;  ///< with hard
  HeadRows<float> q_grad, k_grad, v_grad;
  /// Added to, by [slice, head, query, key]; data nullptr: not wanted. A slice sums over the batch
  /// entries slice*batch/slices up to (slice+1)*batch/slices. Strides may be 0, that of heads only
  /// with one kv head.
  HeadRows<float> bias_grad;
  int64_t bias_slices = 1;
};

/// A query that may attend to no key gets output 0 and no gradient.
void attention_forward(const AttentionForward& params);
void attention_backward(const AttentionBackward& params);

/// What dropout multiplies the weights by, 0 or 1/(1-p), and the Gumbel noise: each dense [batch,
/// heads, queries, keys], or nullptr where not wanted.
void attention_random(const AttentionShape& shape, const AttentionScores& scores, float* factors,
                      float* noise);

}  // namespace x_transformers::kernels
