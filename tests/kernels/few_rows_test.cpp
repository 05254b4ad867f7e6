#include "x_transformers/kernels/cpu/few_rows.h"

#include <bit>
#include <cmath>

#include "kernels/guarded.h"

namespace x_transformers::kernels {
namespace {

class FewRowsTest : public EachIsa {};

constexpr int64_t kMaxRows = 9;  // two groups of four, and one

double value_of(float x) { return x; }
double value_of(BFloat16 x) { return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16); }

template <class T>
std::vector<T> numbers(int64_t size, unsigned seed);
template <>
std::vector<float> numbers(int64_t size, unsigned seed) {
  return random_floats(size, seed);
}
/// Cut off, not rounded: the test asks nothing of them but that they are bfloat16.
template <>
std::vector<BFloat16> numbers(int64_t size, unsigned seed) {
  std::vector<BFloat16> values;
  for (const float value : random_floats(size, seed))
    values.push_back({static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16)});
  return values;
}

/// The largest error, relative to the sum of the magnitudes of the products and, of bfloat16, less
/// what rounding the result may cost. Weights have a gap after each row.
template <class T>
double error_of(int64_t m, int64_t n, int64_t k, bool with_bias) {
  const int64_t stride = k + 3;
  const auto x = numbers<T>(m * k, 1), weight = numbers<T>(n * stride, 2), bias = numbers<T>(n, 3);
  constexpr double kRounding = sizeof(T) == 2 ? 1.0 / 256 : 0;
  constexpr T kMark{};
  constexpr size_t kMargin = 32;
  std::vector<T> out(static_cast<size_t>(m * n) + 2 * kMargin, kMark);
  linear_few_rows(FewRowsParams<T>{m, n, k, x.data(), weight.data(), stride,
                                   with_bias ? bias.data() : nullptr, out.data() + kMargin});
  for (size_t i = 0; i < kMargin; ++i) {
    EXPECT_EQ(value_of(out[i]), 0) << "before the output";
    EXPECT_EQ(value_of(out[out.size() - 1 - i]), 0) << "behind the output";
  }
  double worst = 0.0;
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double want = with_bias ? value_of(bias[static_cast<size_t>(j)]) : 0.0,
             magnitude = std::abs(want);
      for (int64_t l = 0; l < k; ++l) {
        const double product = value_of(x[static_cast<size_t>(i * k + l)]) *
                               value_of(weight[static_cast<size_t>(j * stride + l)]);
        want += product;
        magnitude += std::abs(product);
      }
      const double got = value_of(out[kMargin + static_cast<size_t>(i * n + j)]);
      const double error = std::abs(got - want) - kRounding * std::abs(want);
      worst = std::max(worst, error / (magnitude + 1e-30));
    }
  }
  return worst;
}

template <class T>
void expect_exact() {
  for (const int64_t k : {1, 7, 16, 33, 384}) {
    for (const int64_t n : {1, 3, 64, 257}) {
      for (int64_t m = 1; m <= kMaxRows; ++m)
        EXPECT_LT(error_of<T>(m, n, k, n % 2 == 1), 5e-7) << m << " x " << n << " x " << k;
    }
  }
}

TEST_F(FewRowsTest, IsExactToFloat32) {
  for_each_isa([] { expect_exact<float>(); });
}

TEST_F(FewRowsTest, OfBFloat16IsExactToItsRounding) {
  for_each_isa([] { expect_exact<BFloat16>(); });
}

TEST_F(FewRowsTest, KeepsNaN) {
  const std::vector<BFloat16> x(8, BFloat16{0x3f80}), weight(8, BFloat16{0x7fc0});
  std::vector<BFloat16> out(1);
  for_each_isa([&] {
    linear_few_rows(
        FewRowsParams<BFloat16>{1, 1, 8, x.data(), weight.data(), 8, nullptr, out.data()});
    EXPECT_TRUE(std::isnan(value_of(out[0])));
  });
}

TEST_F(FewRowsTest, WithoutTermsIsTheBias) {
  const std::vector<float> bias{1.0f, 2.0f};
  std::vector<float> out(2, 9.0f);
  linear_few_rows(FewRowsParams<float>{1, 2, 0, nullptr, nullptr, 0, bias.data(), out.data()});
  EXPECT_EQ(out, bias);
}

}  // namespace
}  // namespace x_transformers::kernels
