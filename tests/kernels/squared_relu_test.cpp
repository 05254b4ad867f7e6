#include "x_transformers/kernels/cpu/squared_relu.h"

#include <algorithm>
#include <cmath>

#include "kernels/guarded.h"

namespace x_transformers::kernels {
namespace {

class SquaredReluTest : public EachIsa {};

/// Queries at the last of the keys, of which the first sees `visible`.
struct ScoreShape {
  int64_t rows, columns, visible;
  bool is_causal, by_distance;
};

constexpr ScoreShape kScoreShapes[] = {{3, 5, 5, false, false},
                                       {40, 40, 1, true, false},
                                       {70, 90, 21, true, true},
                                       {33, 64, 64, false, true},
                                       {100, 17, 17, false, true}};

/// Where the bias of a query begins among `cells`.
int64_t bias_row_of(const ScoreShape& s, int64_t row) {
  return s.by_distance ? s.rows - 1 - row : row * (s.columns + 2);
}
int64_t bias_cells(const ScoreShape& s) {
  return s.by_distance ? s.rows + s.columns - 1 : s.rows * (s.columns + 2);
}
int64_t bias_stride_of(const ScoreShape& s) { return s.by_distance ? -1 : s.columns + 2; }

TEST_F(SquaredReluTest, WeighsWhatIsVisible) {
  for_each_isa([] {
    for (const auto& s : kScoreShapes) {
      const auto products = random_floats(s.rows * s.columns, 1),
                 bias = random_floats(bias_cells(s), 2);
      Guarded scores(s.rows * s.columns), weights(s.rows * s.columns);
      std::copy(products.begin(), products.end(), scores.data());
      SquaredReluForward params;
      params.rows = s.rows;
      params.columns = s.columns;
      params.visible = s.visible;
      params.is_causal = s.is_causal;
      params.scale = 0.7f;
      params.bias = {bias.data() + bias_row_of(s, 0), bias_stride_of(s), 1.3f};
      params.scores = scores.data();
      params.weights = weights.data();
      params.scores_stride = params.weights_stride = s.columns;
      squared_relu_forward(params);
      for (int64_t i = 0; i < s.rows; ++i) {
        for (int64_t j = 0; j < s.columns; ++j) {
          const auto cell = static_cast<size_t>(i * s.columns + j);
          const bool is_seen = j < s.visible + (s.is_causal ? i : 0);
          const float score =
              0.7f * products[cell] + 1.3f * bias[static_cast<size_t>(bias_row_of(s, i) + j)];
          const float relu = is_seen ? std::max(score, 0.0f) : 0.0f;
          ASSERT_NEAR(scores[i * s.columns + j], relu, 1e-5) << i << ", " << j;
          ASSERT_NEAR(weights[i * s.columns + j], relu * relu, 1e-4) << i << ", " << j;
        }
      }
    }
  });
}

TEST_F(SquaredReluTest, GradientsOfProductsAndOfTheBias) {
  for_each_isa([] {
    for (const auto& s : kScoreShapes) {
      auto relus = random_floats(s.rows * s.columns, 1);
      for (auto& relu : relus) relu = std::max(relu, 0.0f);
      const auto given = random_floats(s.rows * s.columns, 2);
      Guarded grads(s.rows * s.columns), weights(s.rows * s.columns), bias_grad(bias_cells(s));
      std::copy(given.begin(), given.end(), grads.data());
      std::fill_n(bias_grad.data(), bias_grad.size(), 0.5f);
      std::vector<double> expected(static_cast<size_t>(bias_cells(s)), 0.5);
      SquaredReluBackward params;
      params.rows = s.rows;
      params.columns = s.columns;
      params.scale = 0.7f;
      params.relus = relus.data();
      params.relus_stride = params.stride = s.columns;
      params.weights = weights.data();
      params.grads = grads.data();
      params.bias_scale = 1.3f;
      params.bias_grad = bias_grad.data() + bias_row_of(s, 0);
      params.bias_stride = bias_stride_of(s);
      squared_relu_backward(params);
      for (int64_t i = 0; i < s.rows; ++i) {
        for (int64_t j = 0; j < s.columns; ++j) {
          const auto cell = static_cast<size_t>(i * s.columns + j);
          const double grad = 2.0 * relus[cell] * given[cell];
          ASSERT_NEAR(grads[i * s.columns + j], 0.7 * grad, 1e-5);
          ASSERT_NEAR(weights[i * s.columns + j], relus[cell] * relus[cell], 1e-5);
          expected[static_cast<size_t>(bias_row_of(s, i) + j)] += 1.3 * grad;
        }
      }
      for (int64_t i = 0; i < bias_grad.size(); ++i)
        ASSERT_NEAR(bias_grad[i], expected[static_cast<size_t>(i)], 2e-4) << i;
    }
  });
}

}  // namespace
}  // namespace x_transformers::kernels
