#include "x_transformers/ops/linear_cross_entropy.h"

#include <cmath>

#include "ops/compare_with_reference.h"
#include "x_transformers/core/error.h"
#include "x_transformers/ops/linear.h"
#include "x_transformers/ops/loss.h"

namespace x_transformers::linear_cross_entropy_test {
namespace {

at::Tensor whole(const Tensors& t, const at::Tensor& target) {
  const auto bias = t.size() > 2 ? t[2] : at::Tensor();
  return cross_entropy_reference(linear_reference(t[0], t[1], bias), target, -1);
}

at::Tensor chunked(const Tensors& t, const at::Tensor& target, int64_t chunk) {
  return linear_cross_entropy(t[0], t[1], t.size() > 2 ? t[2] : at::Tensor(), target, -1, chunk);
}

TEST(LinearCrossEntropy, EqualsTheLossOfAllLogitsForEveryChunk) {
  at::manual_seed(2);
  for (const int64_t rows : {1, 6, 14}) {
    const auto x = at::randn({rows, 3, 8}), weight = at::randn({19, 8}), bias = at::randn({19});
    auto target = at::randint(19, {rows, 3});
    target.view({-1})[rows] = -1;
    for (const int64_t chunk : {1, 4, 18, 41, 42, 1000}) {
      expect_like_reference([&](const Tensors& t) { return chunked(t, target, chunk); },
                            [&](const Tensors& t) { return whole(t, target); }, {x, weight});
      expect_like_reference([&](const Tensors& t) { return chunked(t, target, chunk); },
                            [&](const Tensors& t) { return whole(t, target); }, {x, weight, bias},
                            {.second_order = true});
    }
  }
}

TEST(LinearCrossEntropy, EqualsItAtTheSizeOfTheTiles) {
  at::manual_seed(3);
  const auto x = at::randn({300, 64}), weight = at::randn({520, 64}) * 0.3;
  const auto target = at::randint(520, {300});
  expect_like_reference([&](const Tensors& t) { return chunked(t, target, 128); },
                        [&](const Tensors& t) { return whole(t, target); }, {x, weight});
}

TEST(LinearCrossEntropy, MakesOnlyTheGradientsThatAreWanted) {
  at::manual_seed(4);
  const auto target = at::randint(9, {5});
  for (const int64_t wanted : {0, 1}) {
    auto x = at::randn({5, 4}), weight = at::randn({9, 4});
    (wanted == 0 ? x : weight).requires_grad_();
    linear_cross_entropy(x, weight, {}, target, -1, 2).backward();
    EXPECT_EQ(x.grad().defined(), wanted == 0);
    EXPECT_EQ(weight.grad().defined(), wanted == 1);
  }
  const auto loss = linear_cross_entropy(at::randn({5, 4}), at::randn({9, 4}), {}, target, -1, 2);
  EXPECT_FALSE(loss.requires_grad());
}

TEST(LinearCrossEntropy, ScalesWithTheGradientOfTheLossAndMayBeCalledTwice) {
  at::manual_seed(5);
  const auto target = at::randint(9, {5});
  const auto x = at::randn({5, 4}).requires_grad_(), weight = at::randn({9, 4}).requires_grad_();
  const auto loss = linear_cross_entropy(x, weight, {}, target, -1, 2);
  (loss * 3).backward({}, /*retain_graph=*/true);
  const auto three = weight.grad().clone();
  weight.mutable_grad().reset();
  loss.backward();
  EXPECT_TRUE(at::allclose(three, weight.grad() * 3));
}

TEST(LinearCrossEntropy, KeepsThePrecisionOfBfloat16) {
  at::manual_seed(6);
  const auto x = at::randn({64, 16}).to(at::kBFloat16),
             weight = at::randn({40, 16}).to(at::kBFloat16);
  const auto target = at::randint(40, {64});
  const auto gradients_of = [&](at::ScalarType dtype, int64_t chunk) {
    const auto a = x.to(dtype).clone().requires_grad_(),
               b = weight.to(dtype).clone().requires_grad_();
    const auto loss = chunk > 0 ? linear_cross_entropy(a, b, {}, target, -1, chunk)
                                : cross_entropy(linear(a, b, at::Tensor()), target, -1);
    loss.backward();
    return std::vector<at::Tensor>{loss.detach().to(at::kDouble), a.grad().to(at::kDouble),
                                   b.grad().to(at::kDouble)};
  };
  expect_as_near(gradients_of(at::kBFloat16, 8), gradients_of(at::kBFloat16, 0),
                 gradients_of(at::kDouble, 0), at::kBFloat16);
}

TEST(LinearCrossEntropy, WithoutATargetIsNaNWithGradientZero) {
  const auto x = at::randn({3, 4}).requires_grad_(), weight = at::randn({5, 4}).requires_grad_();
  const auto loss = linear_cross_entropy(x, weight, {}, at::full({3}, -1, at::kLong), -1, 2);
  EXPECT_TRUE(std::isnan(loss.item<double>()));
  loss.backward();
  EXPECT_TRUE(at::equal(weight.grad(), at::zeros({5, 4})));
  EXPECT_TRUE(at::equal(x.grad(), at::zeros({3, 4})));
}

TEST(LinearCrossEntropy, RefusesWhatDoesNotFit) {
  const auto x = at::randn({3, 4}), weight = at::randn({5, 4});
  const auto target = at::zeros({3}, at::kLong);
  EXPECT_THROW(linear_cross_entropy(x, weight, {}, target, -1, 0), InputError);
  EXPECT_THROW(linear_cross_entropy(x, weight, {}, at::zeros({2}, at::kLong), -1, 2), InputError);
  EXPECT_THROW(linear_cross_entropy(x, weight, {}, target + 7, -1, 2), InputError);
}

}  // namespace
}  // namespace x_transformers::linear_cross_entropy_test
