#include "x_transformers/kernels/cpu/activation.h"

#include <cmath>
#include <limits>

#include "kernels/guarded.h"

namespace x_transformers::kernels {
namespace {

class ActivationKernelTest : public EachIsa {};

double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

double expected_value(ActivationKind kind, double x) {
  switch (kind) {
    case ActivationKind::identity:
      return x;
    case ActivationKind::relu:
      return std::max(x, 0.0);
    case ActivationKind::relu_squared:
      return x > 0 ? x * x : 0.0;
    case ActivationKind::gelu:
      return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
    case ActivationKind::gelu_tanh:
      return x * sigmoid(2.0 * std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x));
    case ActivationKind::silu:
      return x * sigmoid(x);
    case ActivationKind::sigmoid:
      return sigmoid(x);
    case ActivationKind::tanh:
      return std::tanh(x);
  }
  return 0.0;
}

double expected_slope(ActivationKind kind, double x) {
  if (kind == ActivationKind::relu) return x > 0 ? 1.0 : 0.0;
  const double h = 1e-4;
  return (expected_value(kind, x + h) - expected_value(kind, x - h)) / (2 * h);
}

std::vector<float> sweep() {
  std::vector<float> x;
  for (int i = -20003; i <= 20003; ++i) x.push_back(static_cast<float>(i) * 1e-3f);
  for (const float far : {-1e30f, -1000.0f, -90.0f, 90.0f, 1000.0f}) x.push_back(far);
  return x;
}

TEST_F(ActivationKernelTest, ValuesAreRightToFloatPrecision) {
  for_each_isa([] {
    const auto x = sweep();
    for (int kind = 0; kind < kActivationKinds; ++kind) {
      Guarded y(static_cast<int64_t>(x.size()));
      ActivationForward params;
      params.x = x.data();
      params.y = y.data();
      params.kind = static_cast<ActivationKind>(kind);
      params.rows = 1;
      params.dim = y.size();
      activation_forward(params);
      for (int64_t i = 0; i < y.size(); ++i) {
        if (std::abs(x[i]) > 1e9f) continue;  // squares overflow there
        const double want = expected_value(params.kind, x[i]);
        // gelu's tail is a small difference: its error is that of the distribution times x.
        const double size = std::abs(static_cast<double>(x[i]));
        const double least = std::min(size, params.kind == ActivationKind::gelu ? 6.0 : 1.0);
        const double allowed = 4e-7 * std::max(std::abs(want), least);
        ASSERT_NEAR(y[i], want, allowed + 1e-12) << "kind " << kind << " at " << x[i];
      }
    }
  });
}

TEST_F(ActivationKernelTest, SlopesAreRight) {
  for_each_isa([] {
    const auto x = sweep();
    const auto n = static_cast<int64_t>(x.size());
    const std::vector<float> y_grad(n, 2.0f);
    for (int kind = 0; kind < kActivationKinds; ++kind) {
      Guarded x_grad(n);
      ActivationBackward params;
      params.x = x.data();
      params.y_grad = y_grad.data();
      params.x_grad = x_grad.data();
      params.kind = static_cast<ActivationKind>(kind);
      params.rows = 1;
      params.dim = n;
      activation_backward(params);
      for (int64_t i = 0; i < n; ++i) {
        if (std::abs(x[i]) > 1e9f || x[i] == 0.0f) continue;
        const double want = 2.0 * expected_slope(params.kind, x[i]);
        ASSERT_NEAR(x_grad[i], want, 2e-6 * std::max(1.0, std::abs(want)))
            << "kind " << kind << " at " << x[i];
      }
    }
  });
}

TEST_F(ActivationKernelTest, NotANumberStaysSoAndInfinityIsNoNumberOut) {
  for_each_isa([] {
    const std::vector<float> x = {std::nanf(""), std::numeric_limits<float>::infinity()};
    for (int kind = 0; kind < kActivationKinds; ++kind) {
      Guarded y(2);
      ActivationForward params;
      params.x = x.data();
      params.y = y.data();
      params.kind = static_cast<ActivationKind>(kind);
      params.rows = 1;
      params.dim = 2;
      activation_forward(params);
      EXPECT_TRUE(std::isnan(y[0])) << "kind " << kind;
      EXPECT_FALSE(std::isnan(y[1])) << "kind " << kind;
      EXPECT_GE(y[1], 1.0f) << "kind " << kind;
    }
  });
}

TEST_F(ActivationKernelTest, GatesWithBiasesInEverySize) {
  for_each_isa([] {
    for (const int64_t dim : {1, 3, 4, 8, 13, 16, 21, 64}) {
      constexpr int64_t kRows = 5;
      const auto x = random_floats(kRows * 2 * dim, 5);
      const auto bias = random_floats(2 * dim, 6);
      Guarded y(kRows * dim);
      ActivationForward params;
      params.x = x.data();
      params.y = y.data();
      params.bias = bias.data();
      params.kind = ActivationKind::silu;
      params.gated = true;
      params.rows = kRows;
      params.dim = dim;
      activation_forward(params);
      for (int64_t i = 0; i < kRows * dim; ++i) {
        const float* row = x.data() + i / dim * 2 * dim;
        const double gated = row[i % dim] + bias[i % dim];
        const double gate = row[dim + i % dim] + bias[dim + i % dim];
        ASSERT_NEAR(y[i], gated * gate * sigmoid(gate), 3e-6);
      }
    }
  });
}

TEST_F(ActivationKernelTest, BFloat16RoundsToNearestEven) {
  for_each_isa([] {
    // x is exact in bfloat16; x + bias lies halfway between, just above or just below two of them.
    const std::vector<BFloat16> x(20, BFloat16{0x3f80});  // 1.0
    std::vector<float> bias(20, 0.00390625f);             // 1 + 2^-8: halfway, even is 1
    bias[1] = 0.00391f;
    bias[2] = 0.01171875f;  // 1 + 3 * 2^-8: halfway, even is the upper
    bias[3] = std::nanf("");
    std::vector<BFloat16> y(20);
    ActivationForward params;
    params.x = x.data();
    params.y = y.data();
    params.element = Element::bfloat16;
    params.bias = bias.data();
    params.rows = 1;
    params.dim = 20;
    activation_forward(params);
    EXPECT_EQ(y[0].bits, 0x3f80);
    EXPECT_EQ(y[1].bits, 0x3f81);
    EXPECT_EQ(y[2].bits, 0x3f82);
    EXPECT_GT(y[3].bits & 0x7fff, 0x7f80);
    EXPECT_EQ(y[19].bits, 0x3f80);
  });
}

}  // namespace
}  // namespace x_transformers::kernels
