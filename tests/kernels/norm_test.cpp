#include "x_transformers/kernels/cpu/norm.h"

#include <cmath>

#include "kernels/guarded.h"
#include "x_transformers/kernels/cpu/row_chunks.h"

namespace x_transformers::kernels {
namespace {

constexpr int64_t kDims[] = {1, 2, 3, 7, 8, 15, 16, 17, 33, 384};
constexpr int64_t kRows = 37;

class NormKernelTest : public EachIsa {};

/// Rows normalised in double: 1 / std or 1 / norm, and the mean.
struct Statistics {
  double mean = 0.0;
  double inverse = 0.0;
};

Statistics statistics_of(const float* x, int64_t dim, bool centred) {
  Statistics result;
  double squares = 0.0;
  if (centred) {
    for (int64_t i = 0; i < dim; ++i) result.mean += x[i] / static_cast<double>(dim);
  }
  for (int64_t i = 0; i < dim; ++i) squares += (x[i] - result.mean) * (x[i] - result.mean);
  result.inverse = centred ? 1.0 / std::sqrt(squares / static_cast<double>(dim) + 1e-5)
                           : 1.0 / std::max(std::sqrt(squares), 1e-12);
  return result;
}

void check_forward(int64_t dim, bool centred) {
  const auto x = random_floats(kRows * dim, 1, 2.0f);
  const auto weight = random_floats(dim, 2);
  Guarded y(kRows * dim), mean(kRows), inverse(kRows);
  NormForward params;
  params.x = x.data();
  params.y = y.data();
  params.gain = {weight.data(), 0.5f, false};
  params.mean = mean.data();
  params.inverse = inverse.data();
  params.epsilon = centred ? 1e-5f : 1e-12f;
  params.scale = 3.0f;
  params.rows = kRows;
  params.dim = dim;
  centred ? layer_norm_forward(params) : l2_norm_forward(params);
  for (int64_t row = 0; row < kRows; ++row) {
    const auto expected = statistics_of(x.data() + row * dim, dim, centred);
    EXPECT_NEAR(inverse[row] / expected.inverse, 1.0, 1e-5);
    if (centred) {
      EXPECT_NEAR(mean[row], expected.mean, 1e-5);
    }
    for (int64_t i = 0; i < dim; ++i) {
      const double normed = (x[row * dim + i] - expected.mean) * expected.inverse;
      const double want = normed * (weight[i] + 0.5) * (centred ? 1.0 : 3.0);
      ASSERT_NEAR(y[row * dim + i], want, 2e-5) << "dim " << dim << " row " << row << " at " << i;
    }
  }
}

TEST_F(NormKernelTest, LayerNormForward) {
  for_each_isa([] {
    for (const int64_t dim : kDims) check_forward(dim, true);
  });
}

TEST_F(NormKernelTest, L2NormForward) {
  for_each_isa([] {
    for (const int64_t dim : kDims) check_forward(dim, false);
  });
}

/// The weight gradient is the sum over rows of y_grad * normalised x; the chunks must add up to it.
TEST_F(NormKernelTest, WeightGradientChunksAddUp) {
  for_each_isa([] {
    constexpr int64_t kDim = 19, kManyRows = 101;
    const auto x = random_floats(kManyRows * kDim, 3);
    const auto y_grad = random_floats(kManyRows * kDim, 4);
    Guarded y(kManyRows * kDim), mean(kManyRows), inverse(kManyRows), x_grad(kManyRows * kDim);
    NormForward forward;
    forward.x = x.data();
    forward.y = y.data();
    forward.mean = mean.data();
    forward.inverse = inverse.data();
    forward.epsilon = 1e-5f;
    forward.rows = kManyRows;
    forward.dim = kDim;
    layer_norm_forward(forward);
    const int64_t chunks = row_chunks(kManyRows);
    ASSERT_GT(chunks, 1);
    Guarded weight_grad(chunks * kDim);
    NormBackward backward;
    backward.x = x.data();
    backward.y_grad = y_grad.data();
    backward.x_grad = x_grad.data();
    backward.mean = mean.data();
    backward.inverse = inverse.data();
    backward.weight_grad = weight_grad.data();
    backward.chunks = chunks;
    backward.rows = kManyRows;
    backward.dim = kDim;
    layer_norm_backward(backward);
    for (int64_t i = 0; i < kDim; ++i) {
      double want = 0.0, got = 0.0;
      for (int64_t row = 0; row < kManyRows; ++row) {
        want += static_cast<double>(y_grad[row * kDim + i]) * y[row * kDim + i];
      }
      for (int64_t chunk = 0; chunk < chunks; ++chunk) got += weight_grad[chunk * kDim + i];
      EXPECT_NEAR(got, want, 1e-4);
    }
  });
}

TEST_F(NormKernelTest, OneGainStandsForAllFeatures) {
  for_each_isa([] {
    const auto x = random_floats(3 * 5, 6);
    const float two = 2.0f;
    Guarded y(3 * 5), plain(3 * 5);
    NormForward params;
    params.x = x.data();
    params.y = plain.data();
    params.rows = 3;
    params.dim = 5;
    params.epsilon = 1e-12f;
    l2_norm_forward(params);
    params.y = y.data();
    params.gain = {&two, 1.0f, true};
    l2_norm_forward(params);
    for (int64_t i = 0; i < 15; ++i) EXPECT_FLOAT_EQ(y[i], 3 * plain[i]);
  });
}

TEST_F(NormKernelTest, ARowOfZerosStaysFinite) {
  for_each_isa([] {
    const std::vector<float> x(5, 0.0f);
    Guarded y(5), inverse(1);
    NormForward params;
    params.x = x.data();
    params.y = y.data();
    params.inverse = inverse.data();
    params.epsilon = 1e-12f;
    params.rows = 1;
    params.dim = 5;
    l2_norm_forward(params);
    for (int64_t i = 0; i < 5; ++i) EXPECT_EQ(y[i], 0.0f);
  });
}

}  // namespace
}  // namespace x_transformers::kernels
