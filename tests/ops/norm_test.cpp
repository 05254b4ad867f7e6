#include "x_transformers/ops/norm.h"

#include "ops/compare_with_reference.h"
#include "x_transformers/core/error.h"

namespace x_transformers {
namespace {

class NormTest : public testing::TestWithParam<std::tuple<std::vector<int64_t>, int64_t, double>> {
 protected:
  void SetUp() override { at::manual_seed(1); }
  at::Tensor x() const { return at::randn(shape()); }
  at::Tensor gamma() const {
    const auto gains = std::get<1>(GetParam());
    if (gains == 0) return {};
    return at::randn({gains < 0 ? shape().back() : gains});
  }
  double offset() const { return std::get<2>(GetParam()); }
  const std::vector<int64_t>& shape() const { return std::get<0>(GetParam()); }
};

INSTANTIATE_TEST_SUITE_P(
    Shapes, NormTest,
    testing::Combine(testing::Values(std::vector<int64_t>{3, 5, 7}, std::vector<int64_t>{40, 16},
                                     std::vector<int64_t>{33}, std::vector<int64_t>{2, 0, 8},
                                     std::vector<int64_t>{70, 100}),
                     testing::Values(-1, 0), testing::Values(0.0, 1.0)));

TEST_P(NormTest, LayerNormEqualsItsReference) {
  ASSERT_EQ(norm_unsupported(x(), gamma()), "");
  expect_like_reference(
      [&](const Tensors& t) { return layer_norm(t[0], t[1], offset()); },
      [&](const Tensors& t) { return layer_norm_reference(t[0], t[1], offset()); }, {x(), gamma()});
}

TEST_P(NormTest, RmsNormEqualsItsReference) {
  ASSERT_EQ(norm_unsupported(x(), gamma()), "");
  expect_like_reference([&](const Tensors& t) { return rms_norm(t[0], t[1], offset()); },
                        [&](const Tensors& t) { return rms_norm_reference(t[0], t[1], offset()); },
                        {x(), gamma()});
}

TEST(NormTest, ScaleNormHasOneGain) {
  const auto x = at::randn({4, 9, 24});
  expect_like_reference([](const Tensors& t) { return rms_norm(t[0], t[1], 1.0); },
                        [](const Tensors& t) { return rms_norm_reference(t[0], t[1], 1.0); },
                        {x, at::randn({1})});
}

TEST(NormTest, GainsOfEachHeadBroadcast) {
  expect_like_reference([](const Tensors& t) { return rms_norm(t[0], t[1], 1.0); },
                        [](const Tensors& t) { return rms_norm_reference(t[0], t[1], 1.0); },
                        {at::randn({2, 3, 5, 8}), at::randn({3, 1, 8})});
}

TEST(NormTest, L2NormInGroups) {
  for (const int64_t groups : {1, 2, 6}) {
    expect_like_reference([&](const Tensors& t) { return l2norm(t[0], groups); },
                          [&](const Tensors& t) { return l2norm_reference(t[0], groups); },
                          {at::randn({3, 5, 12})});
  }
  EXPECT_THROW(l2norm(at::randn({3, 10}), 3), InputError);
  EXPECT_THROW(l2norm(at::randn({3, 10}), 0), InputError);
}

TEST(NormTest, StridedInputs) {
  const auto x = at::randn({6, 2, 5, 8});
  for (const auto& view : {+[](const at::Tensor& t) { return t.transpose(1, 2); },
                           +[](const at::Tensor& t) { return t.transpose(0, 3); },
                           +[](const at::Tensor& t) { return t.narrow(3, 1, 6); }}) {
    expect_like_reference(
        [&](const Tensors& t) { return layer_norm(view(t[0])); },
        [&](const Tensors& t) { return layer_norm_reference(view(t[0]), {}, 0.0); }, {x});
  }
}

TEST(NormTest, GradientsOfGradients) {
  const Tensors inputs = {at::randn({4, 10}), at::randn({10})};
  const Compared compared{1e-4, true};
  expect_like_reference([](const Tensors& t) { return layer_norm(t[0], t[1], 1.0); },
                        [](const Tensors& t) { return layer_norm_reference(t[0], t[1], 1.0); },
                        inputs, compared);
  expect_like_reference([](const Tensors& t) { return rms_norm(t[0], t[1], 1.0); },
                        [](const Tensors& t) { return rms_norm_reference(t[0], t[1], 1.0); },
                        inputs, compared);
}

TEST(NormTest, RowsOfZeros) {
  const auto x = at::zeros({3, 6}).requires_grad_();
  for (const auto& y : {rms_norm(x), l2norm(x), layer_norm(x)}) {
    EXPECT_TRUE(y.eq(0).all().item<bool>());
    const auto gradient = torch::autograd::grad({y}, {x}, {at::ones({3, 6})})[0];
    EXPECT_TRUE(gradient.isfinite().all().item<bool>());
  }
}

TEST(NormTest, BFloat16IsAsGoodAsTheReference) {
  const Tensors inputs = {at::randn({9, 40}), at::randn({40})};
  expect_as_good_as_reference(
      [](const Tensors& t) { return layer_norm(t[0], t[1], 1.0); },
      [](const Tensors& t) { return layer_norm_reference(t[0], t[1], 1.0); }, inputs,
      at::kBFloat16);
  expect_as_good_as_reference([](const Tensors& t) { return rms_norm(t[0], t[1], 1.0); },
                              [](const Tensors& t) { return rms_norm_reference(t[0], t[1], 1.0); },
                              inputs, at::kBFloat16);
}

TEST(NormTest, WhatTheKernelsCannotRunGoesToTheReference) {
  const auto x = at::randn({3, 4}, at::kDouble);
  EXPECT_NE(norm_unsupported(x), "");
  EXPECT_NE(norm_unsupported(at::randn({3, 4}), at::randn({2, 1, 4})), "");
  EXPECT_NE(norm_unsupported(at::randn({3, 4}), at::randn({4}, at::kDouble)), "");
  expect_close(layer_norm(x), layer_norm_reference(x, {}, 0.0), 0.0, 0.0);
  expect_close(rms_norm(x), rms_norm_reference(x, {}, 0.0), 0.0, 0.0);
  EXPECT_THROW(layer_norm(at::Tensor()), InputError);
  EXPECT_THROW(layer_norm(at::randn({3, 4}), at::randn({1})), InputError);
}

}  // namespace
}  // namespace x_transformers
