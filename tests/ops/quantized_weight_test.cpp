#include "x_transformers/ops/quantized_weight.h"

#include "ops/compare_with_reference.h"
#include "x_transformers/core/error.h"
#include "x_transformers/kernels/cpu/isa.h"
#include "x_transformers/ops/linear.h"
#include "x_transformers/ops/linear_cross_entropy.h"
#include "x_transformers/ops/linear_ends.h"
#include "x_transformers/ops/linear_three.h"

namespace x_transformers {
namespace {

constexpr Quantization kBoth[] = {Quantization::int8, Quantization::int4};

at::Tensor whole(const at::Tensor& weight, int64_t dim) {
  return dequantized(weight, dim, at::kFloat);
}

TEST(QuantizedWeight, HasTheBitsThatItsNameSays) {
  const auto weight = at::randn({10, 768});
  const auto bits = [&](Quantization q) {
    return 8.0 * static_cast<double>(quantized_weight(weight, q).nbytes()) / weight.numel();
  };
  EXPECT_DOUBLE_EQ(bits(Quantization::int8), 8.5);
  EXPECT_DOUBLE_EQ(bits(Quantization::int4), 4.5);
}

/// Relative to the largest of a group, half a step, and what the 8 bits of the scale cost.
TEST(QuantizedWeight, OfEightBitsIsNearEveryWeight) {
  at::manual_seed(1);
  const auto weight = at::randn({50, 96}) * at::rand({50, 1}).pow(4);
  const auto error = (whole(quantized_weight(weight, Quantization::int8), 96) - weight).abs();
  const auto largest = weight.unflatten(1, {3, 32}).abs().amax(-1, true);
  EXPECT_LE((error.unflatten(1, {3, 32}) / largest).max().item<double>(), 0.5 / 127 + 1.0 / 256);
  EXPECT_LE((error.square().sum() / weight.square().sum()).item<double>(), 1e-4);
}

TEST(QuantizedWeight, OfFourBitsLosesLessThanRoundingToTheFarthest) {
  at::manual_seed(2);
  const auto weight = at::randn({50, 96});
  const auto lost = [&](const at::Tensor& rounded) {
    return ((rounded - weight).square().sum() / weight.square().sum()).item<double>();
  };
  const auto groups = weight.unflatten(1, {3, 32});
  const auto scale = groups.abs().amax(-1, true) / 7;
  const auto plain = ((groups / scale).round() * scale).flatten(1);
  const double of_ours = lost(whole(quantized_weight(weight, Quantization::int4), 96));
  EXPECT_LT(of_ours, 0.9 * lost(plain));
  EXPECT_LT(of_ours, 0.01);
}

TEST(QuantizedWeight, KeepsWhatItCanStand) {
  for (const auto quantization : kBoth) {
    const int64_t most = quantization == Quantization::int8 ? 127 : 7;
    auto weight = at::randint(-most, most + 1, {6, 64}, at::kFloat) * 0.25;
    // So that the scale is a quarter, on either side.
    weight.index_put_({at::indexing::Slice(), 0}, quantization == Quantization::int8 ? 31.75 : -2);
    weight.index_put_({at::indexing::Slice(), 33},
                      quantization == Quantization::int8 ? -31.75 : -2);
    weight[3].zero_();
    EXPECT_TRUE(at::equal(whole(quantized_weight(weight, quantization), 64), weight));
  }
}

TEST(QuantizedWeight, IsReadByEveryLinearOp) {
  const at::NoGradGuard no_grad;
  at::manual_seed(3);
  for (const auto quantization : kBoth) {
    const auto weight = at::randn({90, 64}), bias = at::randn({90});
    const auto quantized = quantized_weight(weight, quantization);
    const auto expanded = whole(quantized, 64);
    for (const auto& x : {at::randn({1, 1, 64}), at::randn({64}), at::randn({3, 5, 64}),
                          at::randn({40, 64}), at::randn({64, 3}).t(), at::randn({0, 64})}) {
      const auto expected = linear_reference(x, expanded, bias);
      expect_close(linear(x, quantized, bias), expected, 1e-4);
      expect_close(linear_reference(x, quantized, bias), expected, 1e-4);
      expect_close(linear_with_ends(x, quantized, bias, {.activation = Activation::silu}),
                   at::silu(expected), 1e-4);
      // Rows of it, as of a weight.
      expect_close(linear(x, quantized.narrow(0, 3, 80), at::Tensor()),
                   linear_reference(x, expanded.narrow(0, 3, 80), at::Tensor()), 1e-4);
      const auto three = linear_three(x, {quantized, quantized, quantized.narrow(0, 0, 10)});
      expect_close(three[2], linear_reference(x, expanded.narrow(0, 0, 10), at::Tensor()), 1e-4);
    }
    for (const auto type : {at::kBFloat16, at::kHalf}) {
      const auto x = at::randn({2, 64}).to(type);
      const auto exact = at::linear(x.to(at::kDouble), expanded.to(at::kDouble));
      expect_as_near({linear(x, quantized, at::Tensor()).to(at::kDouble)},
                     {exact.to(type).to(at::kDouble)}, {exact}, type);
    }
    const auto x = at::randn({7, 64}), target = at::randint(90, {7}, at::kLong);
    expect_close(linear_cross_entropy(x, quantized, bias, target, -100, 3),
                 linear_cross_entropy(x, expanded, bias, target, -100, 3), 1e-5);
  }
}

TEST(QuantizedWeight, FewRowsAreMultipliedAsItIsRead) {
  const at::NoGradGuard no_grad;
  const auto quantized = quantized_weight(at::randn({90, 64}), Quantization::int8);
  for (const int64_t rows : {1, 15, 16}) {
    const auto reports = explain_linear(at::randn({rows, 64}), quantized, at::Tensor());
    EXPECT_EQ(reports.front().engine, "quantized_rows");
    EXPECT_EQ(reports.front().reasons.empty(), rows < 16) << rows;
  }
}

TEST(QuantizedWeight, RefusesWhatHasNoFormat) {
  EXPECT_THROW(quantized_weight(at::randn({8, 33}), Quantization::int8), InputError);
  EXPECT_THROW(quantized_weight(at::randn({8, 32}), Quantization::none), InputError);
  const auto broken = at::randn({8, 32});
  broken[2][3] = std::nan("");
  EXPECT_THROW(quantized_weight(broken, Quantization::int4), InputError);
  const auto quantized = quantized_weight(at::randn({8, 64}), Quantization::int4);
  EXPECT_THROW(linear(at::randn({1, 96}), quantized, at::Tensor()), InputError);
  EXPECT_THROW(parse_quantization("int3"), InputError);
  EXPECT_EQ(parse_quantization("int4"), Quantization::int4);
}

}  // namespace
}  // namespace x_transformers
