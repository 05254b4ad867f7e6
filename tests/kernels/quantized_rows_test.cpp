#include "x_transformers/kernels/cpu/quantized_rows.h"

#include <bit>
#include <cmath>

#include "kernels/guarded.h"

namespace x_transformers::kernels {
namespace {

class QuantizedRowsTest : public EachIsa {};

/// Bytes of rows, and what they mean by the description of QuantizedRow.
struct Weight {
  std::vector<uint8_t> bytes;
  std::vector<double> values;  ///< [n, k]
};

Weight random_weight(int64_t n, const QuantizedRow& row) {
  Weight weight;
  std::mt19937 engine(7);
  weight.bytes.resize(static_cast<size_t>(n * row.bytes()));
  for (int64_t j = 0; j < n; ++j) {
    uint8_t* bytes = weight.bytes.data() + j * row.bytes();
    for (int64_t i = 0; i < row.scales(); ++i) bytes[i] = static_cast<uint8_t>(engine());
    std::vector<float> scales;
    for (int64_t g = 0; g < row.groups(); ++g) {
      const float wide = std::normal_distribution<float>()(engine);
      const auto bits = static_cast<uint16_t>(std::bit_cast<uint32_t>(wide) >> 16);
      scales.push_back(std::bit_cast<float>(static_cast<uint32_t>(bits) << 16));
      bytes[row.scales() + 2 * g] = static_cast<uint8_t>(bits & 0xff);
      bytes[row.scales() + 2 * g + 1] = static_cast<uint8_t>(bits >> 8);
    }
    for (int64_t i = 0; i < row.dim; ++i) {
      const int integer =
          row.bits == 8 ? static_cast<int8_t>(bytes[i]) : (bytes[i / 2] >> (i % 2 * 4) & 15) - 8;
      weight.values.push_back(integer * double{scales[static_cast<size_t>(i / 32)]});
    }
  }
  return weight;
}

/// The largest error, relative to the sum of the magnitudes of the products.
double error_of(int64_t m, int64_t n, const QuantizedRow& row, bool with_bias) {
  const auto weight = random_weight(n, row);
  const auto x = random_floats(m * row.dim, 1), bias = random_floats(n, 3);
  Guarded out(m * n);
  linear_quantized_rows(
      {m, n, row, x.data(), weight.bytes.data(), with_bias ? bias.data() : nullptr, out.data()});
  double worst = 0.0;
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double want = with_bias ? bias[static_cast<size_t>(j)] : 0.0, magnitude = std::abs(want);
      for (int64_t l = 0; l < row.dim; ++l) {
        const double product = x[static_cast<size_t>(i * row.dim + l)] *
                               weight.values[static_cast<size_t>(j * row.dim + l)];
        want += product;
        magnitude += std::abs(product);
      }
      worst = std::max(worst, std::abs(out[i * n + j] - want) / (magnitude + 1e-30));
    }
  }
  return worst;
}

TEST_F(QuantizedRowsTest, IsExactToFloat32) {
  for_each_isa([] {
    for (const int bits : {8, 4}) {
      for (const int64_t k : {32, 64, 96, 416}) {
        for (const int64_t n : {1, 2, 3, 64, 257}) {
          for (int64_t m = 1; m <= 9; ++m)
            EXPECT_LT(error_of(m, n, {bits, k}, n % 2 == 1), 5e-7)
                << bits << " bits, " << m << " x " << n << " x " << k;
        }
      }
    }
  });
}

TEST_F(QuantizedRowsTest, MakesRowsWhole) {
  for_each_isa([] {
    for (const QuantizedRow row : {QuantizedRow{8, 96}, QuantizedRow{4, 96}}) {
      const auto weight = random_weight(5, row);
      Guarded out(5 * row.dim);
      dequantize_rows(weight.bytes.data(), row, 5, out.data());
      for (int64_t i = 0; i < out.size(); ++i)
        EXPECT_EQ(out[i], static_cast<float>(weight.values[static_cast<size_t>(i)])) << i;
    }
  });
}

TEST_F(QuantizedRowsTest, KeepsNaN) {
  const QuantizedRow row{4, 32};
  const std::vector<uint8_t> weight(static_cast<size_t>(row.bytes()), 0x11);
  std::vector<float> x(32, 1.0f), out(1);
  x[5] = std::nanf("");
  for_each_isa([&] {
    linear_quantized_rows({1, 1, row, x.data(), weight.data(), nullptr, out.data()});
    EXPECT_TRUE(std::isnan(out[0]));
  });
}

}  // namespace
}  // namespace x_transformers::kernels
