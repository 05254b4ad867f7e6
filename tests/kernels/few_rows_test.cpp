#include "x_transformers/kernels/cpu/few_rows.h"

#include <cmath>

#include "kernels/guarded.h"

namespace x_transformers::kernels {
namespace {

class FewRowsTest : public EachIsa {};

/// The largest error, relative to the sum of the magnitudes of the products. Weights have a gap
/// after each row.
double error_of(int64_t m, int64_t n, int64_t k, bool with_bias) {
  const int64_t stride = k + 3;
  const auto x = random_floats(m * k, 1), weight = random_floats(n * stride, 2),
             bias = random_floats(n, 3);
  Guarded out(m * n);
  linear_few_rows(
      {m, n, k, x.data(), weight.data(), stride, with_bias ? bias.data() : nullptr, out.data()});
  double worst = 0.0;
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double want = with_bias ? bias[static_cast<size_t>(j)] : 0.0, magnitude = std::abs(want);
      for (int64_t l = 0; l < k; ++l) {
        const double product = static_cast<double>(x[static_cast<size_t>(i * k + l)]) *
                               weight[static_cast<size_t>(j * stride + l)];
        want += product;
        magnitude += std::abs(product);
      }
      worst = std::max(worst, std::abs(out[i * n + j] - want) / (magnitude + 1e-30));
    }
  }
  return worst;
}

TEST_F(FewRowsTest, IsExactToFloat32) {
  for_each_isa([] {
    for (const int64_t k : {1, 7, 16, 33, 384}) {
      for (const int64_t n : {1, 3, 64, 257}) {
        for (int64_t m = 1; m <= kMostFewRows; ++m) {
          EXPECT_LT(error_of(m, n, k, n % 2 == 1), 5e-7) << m << " x " << n << " x " << k;
        }
      }
    }
  });
}

TEST_F(FewRowsTest, WithoutTermsIsTheBias) {
  const std::vector<float> bias{1.0f, 2.0f};
  std::vector<float> out(2, 9.0f);
  linear_few_rows({1, 2, 0, nullptr, nullptr, 0, bias.data(), out.data()});
  EXPECT_EQ(out, bias);
}

}  // namespace
}  // namespace x_transformers::kernels
