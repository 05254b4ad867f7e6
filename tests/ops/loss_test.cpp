#include "x_transformers/ops/loss.h"

#include "ops/compare_with_reference.h"
#include "x_transformers/core/error.h"

namespace x_transformers {
namespace {

class LossTest : public testing::TestWithParam<Reduction> {
 protected:
  void SetUp() override { at::manual_seed(4); }
};

INSTANTIATE_TEST_SUITE_P(Reductions, LossTest,
                         testing::Values(Reduction::none, Reduction::mean, Reduction::sum));

TEST_P(LossTest, CrossEntropyEqualsTorch) {
  for (const auto& shape : {std::vector<int64_t>{3, 5, 7}, std::vector<int64_t>{50, 256},
                            std::vector<int64_t>{2, 40, 33}, std::vector<int64_t>{4, 1}}) {
    auto target = at::randint(0, shape.back(), at::IntArrayRef(shape).slice(0, shape.size() - 1));
    target.view({-1})[1] = -1;
    const auto logits = at::randn(shape) * 4;
    ASSERT_EQ(cross_entropy_unsupported(logits), "");
    expect_like_reference(
        [&](const Tensors& t) { return cross_entropy(t[0], target, -1, GetParam()); },
        [&](const Tensors& t) { return cross_entropy_reference(t[0], target, -1, GetParam()); },
        {logits});
    expect_like_reference(
        [&](const Tensors& t) { return nll(t[0], target, -1, GetParam()); },
        [&](const Tensors& t) {
          const auto gathered = -t[0].gather(-1, target.clamp_min(0).unsqueeze(-1)).squeeze(-1);
          const auto kept = gathered.masked_fill(target == -1, 0);
          if (GetParam() == Reduction::none) return kept;
          return GetParam() == Reduction::sum ? kept.sum() : kept.sum() / (target != -1).sum();
        },
        {logits});
  }
}

TEST_P(LossTest, BySoftmaxEqualsFloat32) {
  auto target = at::randint(0, 40, {30});
  target[4] = -1;
  auto logits = at::randn({30, 40}) * 4;
  logits[7][target[7].item<int64_t>()] = 20;  // so sure that bfloat16 rounds the probability to 1
  logits = logits.to(at::kBFloat16);
  const auto half = logits.clone().requires_grad_(), full = logits.to(at::kFloat).requires_grad_();
  const auto loss = cross_entropy_by_softmax(half, target, -1, GetParam());
  const auto expected = cross_entropy_reference(full, target, -1, GetParam());
  EXPECT_EQ(loss.scalar_type(), at::kFloat);
  // The reference in bfloat16, which the way by the softmax must not be worse than.
  const auto low = logits.clone().requires_grad_();
  const auto reference = cross_entropy_reference(low, target, -1, GetParam());
  const auto weights = at::rand_like(loss);
  (loss * weights).sum().backward();
  (expected * weights).sum().backward();
  (reference * weights).sum().backward();
  const auto in_double = [](const at::Tensor& t) { return t.detach().to(at::kDouble); };
  expect_as_near({in_double(loss), in_double(half.grad())},
                 {in_double(reference), in_double(low.grad())},
                 {in_double(expected), in_double(full.grad())}, at::kBFloat16);
  EXPECT_EQ(half.grad()[4].abs().max().item<float>(), 0.0F);
}

TEST_P(LossTest, StridedLogits) {
  const auto target = at::randint(0, 6, {4, 9});
  expect_like_reference(
      [&](const Tensors& t) {
        return cross_entropy(t[0].narrow(1, 0, 9).transpose(0, 2).transpose(0, 2), target, -100,
                             GetParam());
      },
      [&](const Tensors& t) {
        return cross_entropy_reference(t[0].narrow(1, 0, 9), target, -100, GetParam());
      },
      {at::randn({4, 10, 6})});
}

TEST_P(LossTest, GradientsOfGradients) {
  const auto target = at::randint(0, 6, {9});
  expect_like_reference(
      [&](const Tensors& t) { return cross_entropy(t[0], target, -100, GetParam()); },
      [&](const Tensors& t) { return cross_entropy_reference(t[0], target, -100, GetParam()); },
      {at::randn({9, 6})}, {1e-5, true});
}

TEST(LossTest, TheMeanOfNoTargetIsNaNWithGradientZero) {
  const auto logits = at::randn({3, 5}).requires_grad_();
  const auto target = at::full({3}, -100, at::kLong);
  const auto loss = cross_entropy(logits, target);
  EXPECT_TRUE(loss.isnan().item<bool>());
  const auto gradient = torch::autograd::grad({loss}, {logits})[0];
  EXPECT_TRUE(gradient.eq(0).all().item<bool>());
  const auto theirs = cross_entropy_reference(logits, target);
  EXPECT_TRUE(theirs.isnan().item<bool>());
  EXPECT_TRUE(torch::autograd::grad({theirs}, {logits})[0].eq(0).all().item<bool>());
  EXPECT_EQ(cross_entropy(logits, target, -100, Reduction::sum).item<float>(), 0.0f);
}

TEST(LossTest, NoRows) {
  const auto logits = at::randn({0, 5}).requires_grad_();
  const auto loss = cross_entropy(logits, at::zeros({0}, at::kLong), -100, Reduction::sum);
  EXPECT_EQ(loss.item<float>(), 0.0f);
  EXPECT_EQ(torch::autograd::grad({loss}, {logits})[0].sizes(), logits.sizes());
}

TEST(LossTest, BFloat16) {
  const auto target = at::randint(0, 20, {30});
  const auto logits = at::randn({30, 20}).to(at::kBFloat16).requires_grad_();
  const auto loss = cross_entropy(logits, target);
  EXPECT_EQ(loss.scalar_type(), at::kBFloat16);
  EXPECT_EQ(torch::autograd::grad({loss}, {logits})[0].scalar_type(), at::kBFloat16);
  expect_as_good_as_reference(
      [&](const Tensors& t) { return cross_entropy(t[0], target); },
      [&](const Tensors& t) { return cross_entropy_reference(t[0], target); }, {logits},
      at::kBFloat16);
}

TEST(LossTest, BadInput) {
  const auto logits = at::randn({2, 3, 5});
  EXPECT_THROW(cross_entropy(logits, at::zeros({3, 2}, at::kLong)), InputError);
  EXPECT_THROW(cross_entropy(logits, at::zeros({2, 3})), InputError);
  auto target = at::zeros({2, 3}, at::kLong);
  target[1][1] = 5;
  for (const auto& loss :
       {+[](const at::Tensor&x, const at::Tensor&t) { return cross_entropy(x, t); },
        +[](const at::Tensor&x, const at::Tensor&t) { return nll(x, t); }}) {
    try {
      loss(logits, target);
      FAIL() << "expected InputError";
    } catch (const InputError& error) {
      EXPECT_NE(std::string(error.what()).find("target 5 at flat position 4"), std::string::npos);
    }
  }
}

}  // namespace
}  // namespace x_transformers
