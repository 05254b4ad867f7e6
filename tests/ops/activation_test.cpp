#include "x_transformers/ops/activation.h"

#include "ops/compare_with_reference.h"
#include "x_transformers/core/error.h"

namespace x_transformers {
namespace {

class ActivationTest : public testing::TestWithParam<Activation> {
 protected:
  void SetUp() override { at::manual_seed(2); }
};

INSTANTIATE_TEST_SUITE_P(All, ActivationTest,
                         testing::Values(Activation::identity, Activation::relu,
                                         Activation::relu_squared, Activation::gelu,
                                         Activation::gelu_tanh, Activation::silu,
                                         Activation::sigmoid, Activation::tanh));

TEST_P(ActivationTest, EqualsItsReference) {
  const auto fast = [&](const Tensors& t) { return activate(t[0], GetParam()); };
  const auto reference = [&](const Tensors& t) { return activate_reference(t[0], GetParam()); };
  for (const std::vector<int64_t>& shape :
       {std::vector<int64_t>{3, 5, 7}, std::vector<int64_t>{257}, std::vector<int64_t>{},
        std::vector<int64_t>{2, 0}}) {
    const auto x = at::randn(shape) * 3;
    ASSERT_EQ(activation_unsupported(x), "");
    expect_like_reference(fast, reference, {x});
  }
}

TEST_P(ActivationTest, WithBias) {
  const Tensors inputs = {at::randn({3, 50, 19}) * 3, at::randn({19})};
  expect_like_reference(
      [&](const Tensors& t) { return activate(t[0], GetParam(), t[1]); },
      [&](const Tensors& t) { return activate_reference(t[0], GetParam(), t[1]); }, inputs, {5e-5});
}

TEST_P(ActivationTest, GatedLinearUnit) {
  for (const std::vector<int64_t>& shape :
       {std::vector<int64_t>{3, 5, 14}, std::vector<int64_t>{70, 64}, std::vector<int64_t>{6},
        std::vector<int64_t>{0, 8}}) {
    const auto x = at::randn(shape);
    expect_like_reference([&](const Tensors& t) { return glu(t[0], GetParam()); },
                          [&](const Tensors& t) { return glu_reference(t[0], GetParam()); }, {x});
    expect_like_reference([&](const Tensors& t) { return glu(t[0], GetParam(), t[1]); },
                          [&](const Tensors& t) { return glu_reference(t[0], GetParam(), t[1]); },
                          {x, at::randn({shape.back()})}, {5e-5});
  }
}

TEST_P(ActivationTest, StridedInputs) {
  const auto x = at::randn({4, 6, 10});
  expect_like_reference(
      [&](const Tensors& t) { return glu(t[0].transpose(0, 2), GetParam()); },
      [&](const Tensors& t) { return glu_reference(t[0].transpose(0, 2), GetParam()); }, {x});
  expect_like_reference(
      [&](const Tensors& t) { return activate(t[0].narrow(2, 3, 5), GetParam()); },
      [&](const Tensors& t) { return activate_reference(t[0].narrow(2, 3, 5), GetParam()); }, {x});
}

TEST(ActivationTest, GradientsOfGradients) {
  const Tensors inputs = {at::randn({5, 12}), at::randn({12})};
  expect_like_reference(
      [](const Tensors& t) { return activate(t[0], Activation::gelu, t[1]); },
      [](const Tensors& t) { return activate_reference(t[0], Activation::gelu, t[1]); }, inputs,
      {1e-4, true});
  expect_like_reference(
      [](const Tensors& t) { return glu(t[0], Activation::silu, t[1]); },
      [](const Tensors& t) { return glu_reference(t[0], Activation::silu, t[1]); }, inputs,
      {1e-4, true});
}

TEST(ActivationTest, BFloat16IsAsGoodAsTheReference) {
  const Tensors inputs = {at::randn({9, 40}), at::randn({40})};
  expect_as_good_as_reference(
      [](const Tensors& t) { return glu(t[0], Activation::gelu, t[1]); },
      [](const Tensors& t) { return glu_reference(t[0], Activation::gelu, t[1]); }, inputs,
      at::kBFloat16);
  expect_as_good_as_reference(
      [](const Tensors& t) { return activate(t[0], Activation::silu, t[1]); },
      [](const Tensors& t) { return activate_reference(t[0], Activation::silu, t[1]); }, inputs,
      at::kBFloat16);
}

TEST(ActivationTest, BadInput) {
  EXPECT_THROW(glu(at::randn({2, 3}), Activation::gelu), InputError);
  EXPECT_THROW(glu(at::randn({2, 4}), Activation::gelu, at::randn({2})), InputError);
  EXPECT_THROW(activate(at::randn({2, 4}), Activation::gelu, at::randn({5})), InputError);
  EXPECT_NE(activation_unsupported(at::randn({3}, at::kDouble)), "");
  const auto x = at::randn({3, 4}, at::kDouble);
  expect_close(activate(x, Activation::gelu), at::gelu(x), 0.0, 0.0);
}

}  // namespace
}  // namespace x_transformers
