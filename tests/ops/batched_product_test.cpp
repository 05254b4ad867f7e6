// Products of matrices in a batch against ATen's, on every engine that this processor has.
#include "x_transformers/ops/batched_product.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <chrono>
#include <limits>

#include "x_transformers/core/error.h"

namespace x_transformers::batched_product_test {
namespace {

void expect_close(const at::Tensor& got, const at::Tensor& expected) {
  ASSERT_EQ(got.sizes(), expected.sizes());
  EXPECT_LE((got - expected).abs().max().item<double>(),
            2e-6 * expected.abs().max().item<double>());
}

/// Product and gradients in double precision, and ours.
void check(const at::Tensor& given_a, const at::Tensor& given_b) {
  const auto a = given_a.detach().requires_grad_(), b = given_b.detach().requires_grad_();
  const auto da = a.detach().to(at::kDouble).requires_grad_();
  const auto db = b.detach().to(at::kDouble).requires_grad_();
  const auto expected = at::bmm(da, db), got = batched_product(a, b);
  expect_close(got.detach(), expected.detach());
  const auto weights = at::randn_like(got);
  const auto gradients = torch::autograd::grad({(got * weights).sum()}, {a, b});
  const auto exact = torch::autograd::grad({(expected * weights.to(at::kDouble)).sum()}, {da, db});
  for (size_t i = 0; i < 2; ++i) expect_close(gradients[i], exact[i]);
}

TEST(BatchedProduct, IsThatOfEachPairOfMatrices) {
  at::manual_seed(2);
  check(at::randn({3, 130, 70}), at::randn({3, 70, 210}));
  check(at::randn({2, 5, 3}), at::randn({2, 3, 4}));
  EXPECT_EQ(batched_product(at::randn({0, 5, 3}), at::randn({0, 3, 4})).numel(), 0);
}

TEST(BatchedProduct, OfAnyStrides) {
  at::manual_seed(3);
  const auto wide = at::randn({3, 130, 160});
  check(wide.transpose(1, 2), at::randn({3, 130, 96}));
  check(at::randn({3, 64, 160}), wide.transpose(1, 2));
  check(wide.narrow(2, 7, 90), at::randn({3, 200, 90}).transpose(1, 2));
  check(wide.select(0, 0).expand({3, -1, -1}), at::randn({160, 3, 128}).transpose(0, 1));
}

double seconds_of(const at::Tensor& a, const at::Tensor& b) {
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < 3; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    batched_product(a, b);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    best = std::min(best, took.count());
  }
  return best;
}

// oneDNN has reference loops for factors with gaps, which take some hundred times as long.
TEST(BatchedProduct, GapsBetweenRowsCostNoMoreThanACopy) {
  at::manual_seed(5);
  const auto wide = at::randn({4, 256, 640});
  const auto a = wide.narrow(2, 0, 256), b = wide.narrow(2, 256, 320);
  const auto dense = seconds_of(a.contiguous(), b.contiguous());
  EXPECT_LT(seconds_of(a.contiguous(), b), 20 * dense);
  EXPECT_LT(seconds_of(a, b.contiguous()), 20 * dense);
  EXPECT_LT(seconds_of(a, b.transpose(1, 2).contiguous().transpose(1, 2)), 20 * dense);
  check(a, b);
}

TEST(BatchedProduct, GradientsOfGradients) {
  at::manual_seed(4);
  const auto second = [](at::Tensor (*product)(const at::Tensor&, const at::Tensor&)) {
    at::manual_seed(5);
    const auto a = at::randn({2, 128, 96}).requires_grad_();
    const auto b = at::randn({2, 96, 128}).requires_grad_();
    const auto first =
        torch::autograd::grad({product(a, b).pow(2).sum()}, {a}, {}, true, /*create_graph=*/true);
    return torch::autograd::grad({first[0].pow(2).sum()}, {b})[0];
  };
  const auto expected =
      second([](const at::Tensor& a, const at::Tensor& b) { return at::bmm(a, b); });
  const auto got = second(batched_product);
  EXPECT_LE((got - expected).abs().max().item<double>(),
            1e-4 * expected.abs().max().item<double>());
}

TEST(BatchedProduct, RefusesShapesThatDoNotFit) {
  EXPECT_THROW(batched_product(at::zeros({2, 3, 4}), at::zeros({2, 3, 4})), InputError);
  EXPECT_THROW(batched_product(at::zeros({3, 4}), at::zeros({4, 3})), InputError);
  const auto a = at::zeros({2, 3, 4}, at::kDouble), b = at::zeros({2, 4, 3}, at::kDouble);
  EXPECT_FALSE(explain_batched_product(a, b)[0].reasons.empty());
  EXPECT_THROW(batched_product_on("cpu", a, b), InputError);
}

}  // namespace
}  // namespace x_transformers::batched_product_test
