#include "x_transformers/core/flop_counter.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "x_transformers/core/dry_run.h"

namespace x_transformers {
namespace {

template <class Work>
FlopCount count(Work work) {
  const at::NoGradGuard no_grad;
  return count_flops([&] { work(); });
}

TEST(CountFlops, ProductsAreTwiceTheirMultiplications) {
  const auto x = at::rand({2, 3, 5}), weight = at::rand({7, 5}), bias = at::rand({7});
  EXPECT_EQ(count([&] { at::linear(x, weight); }).total(), 2 * 6 * 7 * 5);
  EXPECT_EQ(count([&] { at::matmul(x, x.transpose(1, 2)); }).total(), 2 * 2 * 3 * 3 * 5);
  EXPECT_EQ(count([&] {
              at::einsum("o h, b h i -> b o i", {weight, x.transpose(1, 2)});
            }).products,
            2 * 7 * 5 * 6);
  EXPECT_EQ(count([&] { at::addmm(bias, x[0], weight.t()); }).products, 2 * 3 * 7 * 5);
}

TEST(CountFlops, ConvolutionsCountTheirKernel) {
  const auto x = at::rand({2, 6, 9});
  EXPECT_EQ(count([&] { at::conv1d(x, at::rand({4, 6, 3})); }).products, 2 * (2 * 4 * 7) * (6 * 3));
  const auto depthwise = [&] {
    at::convolution(x, at::rand({6, 1, 3}), {}, {1}, {0}, {1}, false, {0}, 6);
  };
  EXPECT_EQ(count(depthwise).products, 2 * (2 * 6 * 7) * 3);
}

TEST(CountFlops, CausalAttentionCountsAllPairs) {
  const int64_t b = 2, h = 3, n = 8, d = 4;
  const auto q = at::rand({b, h, n, d});
  const auto attend = [&](bool causal) {
    return count([&] { at::scaled_dot_product_attention(q, q, q, {}, 0.0, causal); });
  };
  EXPECT_EQ(attend(false).products, 2 * b * h * n * n * (d + d));
  EXPECT_EQ(attend(false).elements, b * h * n * n);
  EXPECT_EQ(attend(true).total(), attend(false).total());
}

TEST(CountFlops, ElementwiseCountsTheLargestOperand) {
  const auto x = at::rand({3, 4}), row = at::rand({4});
  EXPECT_EQ(count([&] { x.sigmoid(); }).elements, 12);
  EXPECT_EQ(count([&] { row + x; }).elements, 12);
  EXPECT_EQ(count([&] { x.square(); }).elements, 12);  // calls pow, which is not counted again
  EXPECT_EQ(count([&] { x.sum(-1); }).elements, 12);
  EXPECT_EQ(count([&] { x.softmax(-1); }).elements, 12);
  EXPECT_EQ(count([&] { at::layer_norm(x, {4}, row); }).elements, 12);
}

TEST(CountFlops, MovingIsNotCounted) {
  const auto x = at::rand({3, 4});
  EXPECT_EQ(count([&] { at::cat({x, x}).t().contiguous().clone().narrow(0, 0, 1); }).total(), 0);
  EXPECT_EQ(count([&] { at::arange(6) + 1; }).total(), 0);
  EXPECT_EQ(count([&] { at::zeros({4}); }).total(), 0);
}

TEST(CountFlops, ADryRunCountsTheSame) {
  const auto work = [] {
    const auto x = at::rand({2, 6, 8});
    const auto y = at::softmax(at::matmul(x, x.transpose(1, 2)), -1);
    at::where(y > 0, y, -y).flip({-1}).cumsum(-1);
    at::conv1d(x.transpose(1, 2), at::rand({4, 8, 3})) + at::layer_norm(x, {8}).sum();
  };
  const auto real = count(work);
  const DryRun dry;
  const auto counted = count(work);
  EXPECT_EQ(counted.products, real.products);
  EXPECT_EQ(counted.elements, real.elements);
}

TEST(CountFlops, InnerCountsAreNotOuterOnes) {
  const auto x = at::rand({3, 4});
  double inner = 0;
  const auto outer = count([&] { inner = count([&] { x.sigmoid(); }).total(); });
  EXPECT_EQ(inner, 12);
  EXPECT_EQ(outer.total(), 0);
}

}  // namespace
}  // namespace x_transformers
