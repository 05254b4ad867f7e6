#include "x_transformers/kernels/cpu/gemm.h"

#include <ATen/Parallel.h>
#include <c10/util/BFloat16.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/guarded.h"

namespace x_transformers::kernels {
namespace {

struct Size {
  int64_t m, n, k;
};

// Edges in every direction; several slices of k; more columns than the cache holds.
constexpr Size kSizes[] = {{32, 32, 32},   {1, 1, 1},      {33, 47, 65},   {16, 400, 31},
                           {100, 17, 600}, {40, 36, 4200}, {2048, 35, 96}, {5, 1000, 64}};

class GemmTest : public testing::Test {
  void SetUp() override {
    if (!can_gemm()) GTEST_SKIP() << "this processor has no bfloat16 tiles";
  }
};

/// A matrix with a gap after each line, dense along its rows or its columns.
struct Operand {
  Operand(int64_t rows, int64_t columns, bool rows_dense, uint32_t seed)
      : values(
            random_floats((rows_dense ? rows * (columns + 3) : columns * (rows + 3)), seed, 2.0f)) {
    view.data = values.data();
    view.row_stride = rows_dense ? columns + 3 : 1;
    view.column_stride = rows_dense ? 1 : rows + 3;
  }
  double at(int64_t row, int64_t column) const {
    return view.data[row * view.row_stride + column * view.column_stride];
  }

  std::vector<float> values;
  GemmOperand view;
};

/// The largest error, relative to the sum of the magnitudes of the products.
double error_of(const Size& size, bool a_rows_dense, bool b_rows_dense, bool with_bias,
                GemmPrecision precision) {
  const Operand a(size.m, size.k, a_rows_dense, 1), b(size.k, size.n, b_rows_dense, 2);
  const auto bias = random_floats(size.n, 3);
  Guarded out(size.m * size.n);
  GemmParams params;
  params.m = size.m;
  params.n = size.n;
  params.k = size.k;
  params.a = a.view;
  params.b = b.view;
  params.bias = with_bias ? bias.data() : nullptr;
  params.out = out.data();
  params.precision = precision;
  gemm(params);
  double worst = 0.0;
  for (int64_t i = 0; i < size.m; ++i) {
    for (int64_t j = 0; j < size.n; ++j) {
      double want = with_bias ? bias[static_cast<size_t>(j)] : 0.0, magnitude = std::abs(want);
      for (int64_t l = 0; l < size.k; ++l) {
        want += a.at(i, l) * b.at(l, j);
        magnitude += std::abs(a.at(i, l) * b.at(l, j));
      }
      worst = std::max(worst, std::abs(out[i * size.n + j] - want) / (magnitude + 1e-30));
    }
  }
  return worst;
}

TEST_F(GemmTest, IsExactToFloat32) {
  for (const auto& size : kSizes) {
    for (const int layout : {0, 1, 2, 3}) {
      const double error =
          error_of(size, (layout & 1) != 0, (layout & 2) != 0, layout == 2, GemmPrecision::highest);
      EXPECT_LT(error, 5e-7) << size.m << " x " << size.n << " x " << size.k << ", layout "
                             << layout;
    }
  }
}

TEST_F(GemmTest, WritesRowsWithGapsAndAdds) {
  const Size size{37, 50, 600};
  const Operand a(size.m, size.k, true, 1), b(size.k, size.n, false, 2);
  const int64_t stride = size.n + 5;
  Guarded out(size.m * stride);
  std::fill_n(out.data(), out.size(), 7.0f);
  std::vector<float> product(static_cast<size_t>(size.m * size.n));
  GemmParams params;
  params.m = size.m, params.n = size.n, params.k = size.k;
  params.a = a.view;
  params.b = b.view;
  params.out = product.data();
  gemm(params);
  params.out = out.data();
  params.out_stride = stride;
  params.adds = true;
  gemm(params);
  for (int64_t i = 0; i < size.m; ++i) {
    for (int64_t j = 0; j < stride; ++j) {
      const float more = j < size.n ? product[static_cast<size_t>(i * size.n + j)] : 0.0f;
      ASSERT_NEAR(out[i * stride + j], 7.0f + more, 1e-3) << i << ", " << j;
    }
  }
}

/// `value` as a sum of so many numbers of bfloat16.
double in_parts(double value, int parts) {
  double sum = 0;
  for (int i = 0; i < parts; ++i)
    sum += static_cast<float>(c10::BFloat16(static_cast<float>(value - sum)));
  return sum;
}

/// The error of exact products of these operands, each as a sum of `parts` numbers of bfloat16.
double error_of_parts(const Size& size, int parts) {
  const Operand a(size.m, size.k, true, 1), b(size.k, size.n, false, 2);
  double worst = 0.0;
  for (int64_t i = 0; i < size.m; ++i) {
    for (int64_t j = 0; j < size.n; ++j) {
      double error = 0.0, magnitude = 0.0;
      for (int64_t l = 0; l < size.k; ++l) {
        const double exact = a.at(i, l) * b.at(l, j);
        error += in_parts(a.at(i, l), parts) * in_parts(b.at(l, j), parts) - exact;
        magnitude += std::abs(exact);
      }
      worst = std::max(worst, std::abs(error) / magnitude);
    }
  }
  return worst;
}

TEST_F(GemmTest, LessPrecisionCostsTheBitsItSays) {
  const Size size{64, 48, 512};
  const double high = error_of(size, true, false, true, GemmPrecision::high);
  const double medium = error_of(size, true, false, true, GemmPrecision::medium);
  EXPECT_LE(high, 2 * error_of_parts(size, 2));
  EXPECT_LE(medium, 2 * error_of_parts(size, 1));
  EXPECT_GT(medium, 10 * high);
}

TEST_F(GemmTest, DoesNotDependOnTheNumberOfThreads) {
  const auto a = random_floats(70 * 900, 1), b = random_floats(900 * 800, 2);
  std::vector<float> one(70 * 800), many(70 * 800);
  GemmParams params;
  params.m = 70, params.n = 800, params.k = 900;
  params.a = {a.data(), 900, 1};
  params.b = {b.data(), 800, 1};
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  params.out = one.data();
  gemm(params);
  at::set_num_threads(3);
  params.out = many.data();
  gemm(params);
  at::set_num_threads(threads);
  EXPECT_EQ(one, many);
}

TEST_F(GemmTest, ShowsWhatIsNotFinite) {
  std::vector<float> a(32 * 32, 1.0f), b(32 * 32, 2.0f), out(32 * 32);
  a[0] = std::numeric_limits<float>::infinity();
  a[32] = std::nanf("");
  GemmParams params;
  params.m = params.n = params.k = 32;
  params.a = {a.data(), 32, 1};
  params.b = {b.data(), 32, 1};
  params.out = out.data();
  gemm(params);
  EXPECT_FALSE(std::isfinite(out[0]));
  EXPECT_FALSE(std::isfinite(out[32]));
  EXPECT_EQ(out[64], 64.0f);
}

TEST_F(GemmTest, WithoutTermsIsTheBias) {
  const std::vector<float> bias{1.0f, 2.0f};
  std::vector<float> out(4, 9.0f);
  GemmParams params;
  params.m = params.n = 2;
  params.bias = bias.data();
  params.out = out.data();
  gemm(params);
  EXPECT_EQ(out, (std::vector<float>{1.0f, 2.0f, 1.0f, 2.0f}));
}

}  // namespace
}  // namespace x_transformers::kernels
