// The feed-forward layer against its formula.
#include "x_transformers/nn/feed_forward.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "x_transformers/core/error.h"

namespace x_transformers::feed_forward_test {
namespace {

constexpr int64_t kDim = 4;

FeedForwardOptions options() {
  FeedForwardOptions options;
  options.dim = kDim;
  options.mult = 2;
  return options;
}

struct Given {
  FeedForward layer;
  at::Tensor x;
  at::Tensor weight(const std::string& name) const { return layer->named_parameters()[name]; }
};

Given make(const FeedForwardOptions& options) {
  at::manual_seed(3);
  Given given{FeedForward(options), {}};
  given.layer->eval();
  given.x = at::randn({2, 3, kDim});
  return given;
}

void expect_close(const at::Tensor& got, const at::Tensor& expected) {
  ASSERT_EQ(got.sizes(), expected.sizes());
  EXPECT_TRUE(at::allclose(got, expected, 1e-5, 1e-6)) << (got - expected).abs().max();
}

TEST(FeedForward, ProjectsActivatesProjects) {
  auto given = make(options());
  const auto hidden =
      at::linear(given.x, given.weight("ff.0.0.weight"), given.weight("ff.0.0.bias"));
  EXPECT_EQ(hidden.size(-1), 2 * kDim);
  const auto expected =
      at::linear(at::gelu(hidden), given.weight("ff.2.weight"), given.weight("ff.2.bias"));
  expect_close(given.layer->forward(given.x), expected);
}

TEST(FeedForward, TheGatedUnitGatesTheFirstHalfByTheSecond) {
  auto gated = options();
  gated.glu = gated.swish = true;
  gated.no_bias = true;
  auto given = make(gated);
  const auto halves =
      at::linear(given.x, given.weight("ff.0.proj.weight"), given.weight("ff.0.proj.bias"))
          .chunk(2, -1);
  const auto expected = at::linear(halves[0] * at::silu(halves[1]), given.weight("ff.2.weight"));
  expect_close(given.layer->forward(given.x), expected);
}

TEST(FeedForward, ZeroInitStartsAtZeroAndDeepEmbeddingsMultiply) {
  auto zero = options();
  zero.zero_init_output = true;
  auto silent = make(zero);
  expect_close(silent.layer->forward(silent.x), at::zeros({2, 3, kDim}));
  auto given = make(options());
  const auto factors = at::randn({2, 3, kDim});
  expect_close(given.layer->forward({given.x, factors}), given.layer->forward(given.x) * factors);
}

TEST(FeedForward, DimOutIsTheLastDimension) {
  auto wide = options();
  wide.dim_out = 7;
  auto given = make(wide);
  EXPECT_EQ(given.layer->forward(given.x).sizes(), at::IntArrayRef({2, 3, 7}));
}

TEST(FeedForward, TwoActivationsAreRefused) {
  auto both = options();
  both.relu_squared = both.solu = true;
  EXPECT_THROW(FeedForward{both}, InputError);
}

}  // namespace
}  // namespace x_transformers::feed_forward_test
