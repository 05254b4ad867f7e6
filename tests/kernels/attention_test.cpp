#include "x_transformers/kernels/cpu/attention.h"

#include <cmath>

#include "kernels/guarded.h"

namespace x_transformers::kernels {
namespace {

class AttentionKernelTest : public EachIsa {};

constexpr float kGap = -777.0f;

/// [batch, heads, rows, features] with one unused float behind every row.
struct Gapped {
  int64_t heads, rows, features;
  std::vector<float> cells;

  Gapped(int64_t batch, int64_t heads, int64_t rows, int64_t features, unsigned seed)
      : heads(heads), rows(rows), features(features) {
    cells = seed == 0 ? std::vector<float>(batch * heads * rows * (features + 1), kGap)
                      : random_floats(batch * heads * rows * (features + 1), seed);
  }
  /// All but the gaps becomes 0.
  void clear() {
    for (size_t i = 0; i < cells.size(); ++i) {
      if (static_cast<int64_t>(i) % (features + 1) != features) cells[i] = 0.0f;
    }
  }
  HeadRows<float> view() {
    const int64_t row = features + 1;
    return {cells.data(), heads * rows * row, rows * row, row};
  }
  HeadRows<const float> const_view() const {
    const int64_t row = features + 1;
    return {cells.data(), heads * rows * row, rows * row, row};
  }
  /// Every feature written, every gap not.
  void expect_written() const {
    for (size_t i = 0; i < cells.size(); ++i) {
      const bool gap = static_cast<int64_t>(i) % (features + 1) == features;
      ASSERT_EQ(cells[i] == kGap, gap) << "cell " << i;
    }
  }
};

/// Two floats a query, with guards around all.
SoftmaxState* states_in(Guarded& floats) { return reinterpret_cast<SoftmaxState*>(floats.data()); }

AttentionForward forward_of(const AttentionShape& shape, const Gapped& q, const Gapped& k,
                            const Gapped& v, Gapped& out) {
  AttentionForward forward;
  forward.shape = shape;
  forward.q = q.const_view();
  forward.k = k.const_view();
  forward.v = v.const_view();
  forward.out = out.view();
  return forward;
}

/// What follows `forward`, save for its output.
AttentionBackward backward_of(const AttentionForward& forward, const Gapped& out_grad,
                              Gapped& q_grad, Gapped& k_grad, Gapped& v_grad) {
  AttentionBackward backward;
  backward.shape = forward.shape;
  backward.scores = forward.scores;
  backward.q = forward.q;
  backward.k = forward.k;
  backward.v = forward.v;
  backward.softmax = forward.softmax;
  backward.chosen = forward.chosen;
  backward.out_grad = out_grad.const_view();
  backward.q_grad = q_grad.view();
  backward.k_grad = k_grad.view();
  backward.v_grad = v_grad.view();
  return backward;
}

TEST_F(AttentionKernelTest, WritesItsRowsAndNothingElse) {
  for_each_isa([] {
    for (const auto& [queries, keys, dim, value_dim] :
         {std::tuple<int64_t, int64_t, int64_t, int64_t>{60, 60, 21, 19},
          {1, 40, 5, 7},
          {31, 300, 64, 33}}) {
      const AttentionShape shape{2, 4, 2, queries, keys, dim, value_dim};
      const Gapped q(2, 4, queries, dim, 1), k(2, 2, keys, dim, 2), v(2, 2, keys, value_dim, 3);
      const Gapped out_grad(2, 4, queries, value_dim, 4);
      Gapped out(2, 4, queries, value_dim, 0), q_grad(2, 4, queries, dim, 0);
      Gapped k_grad(2, 2, keys, dim, 0), v_grad(2, 2, keys, value_dim, 0);
      Guarded softmax(2 * 2 * 4 * queries);
      auto forward = forward_of(shape, q, k, v, out);
      forward.scores.scale = 0.2f;
      forward.softmax = states_in(softmax);
      attention_forward(forward);
      out.expect_written();
      auto backward = backward_of(forward, out_grad, q_grad, k_grad, v_grad);
      backward.out = out.const_view();
      attention_backward(backward);
      q_grad.expect_written();
      k_grad.expect_written();
      v_grad.expect_written();
    }
  });
}

TEST_F(AttentionKernelTest, WritesWhatHardAndBiasesAskForAndNothingElse) {
  for_each_isa([] {
    for (const auto& [queries, keys] : {std::pair<int64_t, int64_t>{60, 61}, {3, 40}, {31, 300}}) {
      const AttentionShape shape{3, 4, 2, queries, keys, 8, 9};
      const Gapped q(3, 4, queries, 8, 1), k(3, 2, keys, 8, 2), v(3, 2, keys, 9, 3);
      const Gapped bias(1, 4, queries, keys, 6), out_grad(3, 4, queries, 9, 4);
      Gapped out(3, 4, queries, 9, 0), soft_out(3, 4, queries, 9, 0);
      Guarded softmax(2 * 3 * 4 * queries);
      std::vector<int32_t> chosen(3 * 4 * queries + 1, -7);
      const auto sinks = random_floats(4, 8);
      auto forward = forward_of(shape, q, k, v, out);
      forward.scores.bias = bias.const_view();
      forward.scores.bias.batch_stride = 0;
      forward.scores.sinks = sinks.data();
      forward.scores.hard = true;
      forward.scores.dropout = 0.2;
      forward.soft_out = soft_out.view();
      forward.softmax = states_in(softmax);
      forward.chosen = chosen.data();
      attention_forward(forward);
      out.expect_written();
      soft_out.expect_written();
      EXPECT_EQ(chosen.back(), -7);
      for (size_t i = 0; i + 1 < chosen.size(); ++i) {
        ASSERT_GE(chosen[i], -1);
        ASSERT_LT(chosen[i], keys);
      }

      // Two slices for three batch entries.
      Gapped q_grad(3, 4, queries, 8, 0), k_grad(3, 2, keys, 8, 0), v_grad(3, 2, keys, 9, 0);
      Gapped bias_grad(2, 4, queries, keys, 0);
      bias_grad.clear();
      auto backward = backward_of(forward, out_grad, q_grad, k_grad, v_grad);
      backward.out = soft_out.const_view();
      backward.bias_grad = bias_grad.view();
      backward.bias_slices = 2;
      attention_backward(backward);
      q_grad.expect_written();
      k_grad.expect_written();
      v_grad.expect_written();
      bias_grad.expect_written();
    }
  });
}

TEST_F(AttentionKernelTest, SoftmaxOfEqualScores) {
  for_each_isa([] {
    const std::vector<float> zeros(600, 0.0f), values = random_floats(600, 5);
    for (const int64_t queries : {1, 30}) {
      Guarded out(queries * 3);
      Guarded softmax(2 * queries);
      AttentionForward params;
      params.shape = {1, 1, 1, queries, 200, 3, 3};
      params.q = params.k = {zeros.data(), 600, 600, 3};
      params.v = {values.data(), 600, 600, 3};
      params.out = {out.data(), queries * 3, queries * 3, 3};
      params.softmax = states_in(softmax);
      params.scores.causal = true;  // the last query sees all 200 keys
      attention_forward(params);
      EXPECT_EQ(states_in(softmax)[queries - 1].maximum, 0.0f);
      EXPECT_NEAR(states_in(softmax)[queries - 1].inverse, 1.0 / 200.0, 1e-7);
      double mean = 0.0;
      for (int64_t key = 0; key < 200; ++key) mean += values[key * 3] / 200.0;
      EXPECT_NEAR(out[(queries - 1) * 3], mean, 1e-5);
    }
  });
}

}  // namespace
}  // namespace x_transformers::kernels
