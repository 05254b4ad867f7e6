#include "x_transformers/ops/linear.h"

#include "ops/compare_with_reference.h"
#include "x_transformers/core/error.h"
#include "x_transformers/kernels/cpu/gemm.h"
#include "x_transformers/kernels/cpu/isa.h"
#include "x_transformers/ops/onednn_product.h"

namespace x_transformers {
namespace {

at::Tensor apply(const Tensors& t) { return linear(t[0], t[1], t[2]); }
at::Tensor reference(const Tensors& t) { return linear_reference(t[0], t[1], t[2]); }

class LinearTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!kernels::can_gemm() && !prefers_onednn())
      GTEST_SKIP() << "ATen has the fastest products of this processor";
    at::manual_seed(3);
    x = at::randn({3, 50, 96});
    weight = at::randn({80, 96});
    bias = at::randn({80});
  }

  at::Tensor x, weight, bias;
};

TEST_F(LinearTest, OutputsAndGradientsAreThoseOfATen) {
  ASSERT_EQ(linear_unsupported(x, weight, bias), "");
  expect_like_reference(apply, reference, {x, weight, bias}, {1e-4, true});
  expect_like_reference(apply, reference, {x, weight, at::Tensor()}, {1e-4, true});
}

TEST_F(LinearTest, OfFarMoreOrFewerFeatures) {
  const auto more_rows = at::randn({6, 50, 96});
  for (const int64_t features : {40, 250}) {
    const auto wide = at::randn({features, 96});
    ASSERT_EQ(linear_unsupported(more_rows, wide, at::Tensor()), "");
    expect_like_reference(apply, reference, {more_rows, wide, at::Tensor()}, {1e-4, true});
  }
}

TEST_F(LinearTest, TakesViews) {
  const auto view = at::randn({50, 3, 100}).transpose(0, 1).narrow(2, 2, 96);
  ASSERT_EQ(linear_unsupported(view, weight, bias), "");
  expect_like_reference(apply, reference, {view, weight, bias}, {1e-4, false});
  const at::NoGradGuard no_grad;
  const auto rotated = at::randn({96, 80}).t();
  expect_close(linear(view, rotated, bias), linear_reference(view, rotated, bias), 1e-4);
}

TEST_F(LinearTest, GradientsThatAreViewsOfOneNumber) {
  x.requires_grad_();
  weight.requires_grad_();
  linear(x, weight, bias).sum().backward();  // the gradient has strides of 0
  expect_close(x.grad(), weight.sum(0).expand_as(x), 1e-4);
  expect_close(weight.grad(), x.sum(at::IntArrayRef{0, 1}).expand_as(weight), 1e-4);
}

TEST_F(LinearTest, OnlyWantedGradients) {
  x.requires_grad_();
  linear(x, weight, bias).sum().backward();
  EXPECT_TRUE(x.grad().defined());
  EXPECT_FALSE(weight.grad().defined());
}

TEST_F(LinearTest, FollowsTheMatmulPrecision) {
  if (!kernels::can_gemm()) GTEST_SKIP() << "this processor has no bfloat16 tiles";
  const auto exact = linear(x, weight, bias);
  set_matmul_precision("medium");
  const auto coarse = linear(x, weight, bias);
  set_matmul_precision("high");
  const auto high = linear(x, weight, bias);
  set_matmul_precision("highest");
  EXPECT_THROW(set_matmul_precision("some"), InputError);
  const auto error = [&](const at::Tensor& y) { return (y - exact).abs().max().item<double>(); };
  EXPECT_GT(error(coarse), 10 * error(high));
  EXPECT_GT(error(high), 0);
  // Of a sum of so many numbers of bfloat16 in place of each.
  const auto in_parts = [](const at::Tensor& t, int parts) {
    auto sum = at::zeros_like(t);
    for (int i = 0; i < parts; ++i) sum = sum + (t - sum).to(at::kBFloat16).to(at::kFloat);
    return sum;
  };
  const auto error_of_parts = [&](int parts) {
    return error(linear_reference(in_parts(x, parts), in_parts(weight, parts), bias));
  };
  EXPECT_LE(error(coarse), 2 * error_of_parts(1));
  EXPECT_LE(error(high), 2 * error_of_parts(2));
}

TEST_F(LinearTest, LeavesTheRestToATen) {
  EXPECT_NE(linear_unsupported(x.to(at::kDouble), weight, bias), "");
  EXPECT_NE(linear_unsupported(x.narrow(1, 0, 1).narrow(0, 0, 1), weight, bias), "");
  EXPECT_NE(linear_unsupported(x, weight, at::randn({80, 2}).select(1, 0)), "");
  kernels::use_isa(kernels::Isa::baseline);
  EXPECT_NE(linear_unsupported(x, weight, bias), "");
  kernels::use_isa(kernels::usable_isas().back());
  EXPECT_ANY_THROW(linear(x, at::randn({80, 95}), bias));
}

TEST(FewRowsLinear, IsThatOfATen) {
  if (kernels::current_isa() == kernels::Isa::baseline)
    GTEST_SKIP() << "no kernel for this processor";
  const at::NoGradGuard no_grad;
  at::manual_seed(3);
  const auto weight = at::randn({90, 64}), bias = at::randn({90});
  for (const auto& x : {at::randn({1, 1, 64}), at::randn({64}), at::randn({2, 2, 64}),
                        at::randn({64, 3}).t(), at::randn({0, 64})}) {
    ASSERT_EQ(few_rows_unsupported(x, weight, bias), "");
    expect_close(linear(x, weight, bias), linear_reference(x, weight, bias), 1e-5);
    const auto part = weight.narrow(0, 3, 80);
    expect_close(linear(x, part, at::Tensor()), linear_reference(x, part, at::Tensor()), 1e-5);
  }
  const auto x = at::randn({1, 64});
  EXPECT_NE(few_rows_unsupported(at::randn({5, 64}), weight, bias), "");
  EXPECT_NE(few_rows_unsupported(x, at::randn({64, 90}).t(), bias), "");
  EXPECT_NE(few_rows_unsupported(x, weight.to(at::kDouble), bias), "");
}

TEST(FewRowsLinear, TakesMoreRowsOfBFloat16WhereItIsEmulated) {
  if (kernels::current_isa() == kernels::Isa::baseline)
    GTEST_SKIP() << "no kernel for this processor";
  const at::NoGradGuard no_grad;
  const auto weight = at::randn({90, 64}).to(at::kBFloat16);
  for (const int64_t rows : {1, 4, 5, 15, 16}) {
    const auto x = at::randn({rows, 64}).to(at::kBFloat16);
    const bool is_few = rows <= 4 || (rows < 16 && emulates_bf16());
    EXPECT_EQ(few_rows_unsupported(x, weight, at::Tensor()).empty(), is_few) << rows;
    const auto exact = at::linear(x.to(at::kDouble), weight.to(at::kDouble));
    // Rounded once, whichever engine it is.
    expect_as_near({linear(x, weight, at::Tensor()).to(at::kDouble)},
                   {exact.to(at::kBFloat16).to(at::kDouble)}, {exact}, at::kBFloat16);
  }
}

TEST(FewRowsLinear, GradientsAreThoseOfATen) {
  expect_like_reference(apply, reference,
                        {at::randn({2, 64}), at::randn({90, 64}), at::randn({90})}, {1e-4, true});
}

}  // namespace
}  // namespace x_transformers
