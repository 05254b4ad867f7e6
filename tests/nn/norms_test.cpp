// Norms against their formulas, written out.
#include "x_transformers/nn/norms.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace x_transformers::norms_test {
namespace {

constexpr int64_t kDim = 6;

at::Tensor some(at::IntArrayRef shape) {
  at::manual_seed(5);
  return at::randn(shape);
}

void set(torch::nn::Module& module, const std::string& name, const at::Tensor& value) {
  const torch::NoGradGuard no_grad;
  module.named_parameters()[name].copy_(value);
}

void expect_close(const at::Tensor& got, const at::Tensor& expected) {
  ASSERT_EQ(got.sizes(), expected.sizes());
  EXPECT_TRUE(at::allclose(got, expected, 1e-5, 1e-6)) << (got - expected).abs().max();
}

at::Tensor unit_rows(const at::Tensor& x) { return x / x.square().mean(-1, true).sqrt(); }

TEST(Norms, LayerNormIsCentredAndScaled) {
  const auto x = some({2, 3, kDim}), gain = at::arange(1, kDim + 1).to(at::kFloat);
  const auto centred = x - x.mean(-1, true);
  const auto expected = centred / (centred.square().mean(-1, true) + 1e-5).sqrt() * gain;
  LayerNorm plain(kDim), offset(NormModuleOptions{.dim = kDim, .unit_offset = true});
  set(plain, "gamma", gain);
  set(offset, "gamma", gain - 1);
  expect_close(plain.forward(x), expected);
  expect_close(offset.forward(x), expected);
}

TEST(Norms, RootMeanSquareHasAGainForEachFeatureOneOrNone) {
  const auto x = some({2, 3, kDim}), gain = at::arange(1, kDim + 1).to(at::kFloat);
  RootMeanSquareNorm each({kDim}), one({1}), none({});
  set(each, "g", gain);
  set(one, "g", at::full({1}, 3.0));
  expect_close(each.forward(x), unit_rows(x) * gain);
  expect_close(one.forward(x), unit_rows(x) * 3);
  expect_close(none.forward(x), unit_rows(x));
}

TEST(Norms, ARowOfZerosStaysFinite) {
  const auto zeros = at::zeros({1, kDim});
  for (const auto kind : {NormChoice::Kind::layer_norm, NormChoice::Kind::rms_norm,
                          NormChoice::Kind::scale_norm, NormChoice::Kind::simple_rms_norm}) {
    NormChoice choice;
    choice.kind = kind;
    expect_close(make_norm(kDim, choice)->forward(zeros), zeros);
  }
}

TEST(Norms, AdaptiveNormsStartWithoutTheCondition) {
  const auto x = some({2, 3, kDim}), condition = some({2, 1, 4});
  AdaptiveLayerNorm layer({kDim, 4});
  AdaptiveRMSNorm root({kDim, 4});
  expect_close(layer.forward(x, condition), LayerNorm(kDim).forward(x));
  expect_close(root.forward(x, condition), unit_rows(x));
}

TEST(Norms, DynamicTanhIsItsFormula) {
  const auto x = some({2, 3, kDim});
  DynamicTanh norm({.dim = kDim, .init_alpha = 0.5});
  set(norm, "gamma", at::full({kDim}, 2.0));
  set(norm, "beta", at::full({kDim}, 0.25));
  expect_close(norm.forward(x), (x * 0.5).tanh() * 2 + 0.25);
}

}  // namespace
}  // namespace x_transformers::norms_test
