// Residual connections and what wraps a branch, against their formulas.
#include "x_transformers/nn/residuals.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "x_transformers/core/error.h"
#include "x_transformers/nn/blocks.h"
#include "x_transformers/nn/positions/rotary.h"

namespace x_transformers::residuals_test {
namespace {

constexpr int64_t kDim = 4;

at::Tensor some(at::IntArrayRef shape, uint64_t seed = 5) {
  at::manual_seed(seed);
  return at::randn(shape);
}

void expect_close(const at::Tensor& got, const at::Tensor& expected) {
  ASSERT_EQ(got.sizes(), expected.sizes());
  EXPECT_TRUE(at::allclose(got, expected, 1e-5, 1e-6)) << (got - expected).abs().max();
}

/// Passes its input on.
struct Identity : Block {
  BranchOutput run(const BranchInputs& inputs) override {
    BranchOutput output;
    output.out = inputs.x;
    return output;
  }
};

TEST(Residuals, TheResidualIsAddedScaled) {
  const auto out = some({1, 2, kDim}), residual = some({1, 2, kDim}, 6);
  Residual plain({kDim, false, 0.5}), scaled({kDim, true, 0.5});
  const torch::NoGradGuard no_grad;
  scaled.named_parameters()["residual_scale"].fill_(3);
  expect_close(plain.forward(out, plain.prepare(residual)), out + residual * 0.5);
  expect_close(scaled.forward(out, scaled.prepare(residual)), out + residual * 1.5);
}

TEST(Residuals, GatingIsAGruCell) {
  const auto out = some({1, 2, kDim}), residual = some({1, 2, kDim}, 6);
  GRUGating gating({kDim});
  const auto weights = gating.named_parameters();
  const auto part = [&](const char* name, const at::Tensor& x) {
    const std::string end = name;
    return at::linear(x, weights["gru.weight_" + end], weights["gru.bias_" + end]).chunk(3, -1);
  };
  const auto in = part("ih", out), before = part("hh", residual);
  const auto reset = (in[0] + before[0]).sigmoid(), update = (in[1] + before[1]).sigmoid();
  const auto fresh = (in[2] + reset * before[2]).tanh();
  expect_close(gating.forward(out, gating.prepare(residual)),
               (1 - update) * fresh + update * residual);
}

TEST(Residuals, LimeMixesTheLayersByWeightsOfTheToken) {
  DynamicLIMeOptions options;
  options.dim = kDim;
  options.num_layers = 3;
  const auto x = some({1, 2, kDim});
  std::vector<at::Tensor> hiddens;
  for (uint64_t layer = 0; layer < 3; ++layer) hiddens.push_back(some({1, 2, kDim}, 7 + layer));
  for (const bool norm : {true, false}) {
    options.norm = norm;
    DynamicLIMe lime(options);
    const auto weights = lime.named_parameters();
    const std::string linear = norm ? "to_weights.1." : "to_weights.0.";
    const auto seen = norm ? x / x.square().mean(-1, true).sqrt() : x;
    const auto shares =
        at::linear(seen, weights[linear + "weight"], weights[linear + "bias"]).softmax(-1);
    auto expected = at::zeros_like(x);
    for (int64_t layer = 0; layer < 3; ++layer)
      expected = expected + hiddens[layer] * shares.narrow(-1, layer, 1);
    expect_close(lime.forward(x, hiddens), expected);
    EXPECT_THROW(lime.forward(x, {x}), InputError);
  }
}

TEST(Residuals, HyperConnectionsKeepEveryStream) {
  constexpr int64_t kStreams = 3;
  HyperConnection hyper({.dim = kDim, .num_residual_streams = kStreams});
  const auto streams = some({2 * kStreams, 2, kDim});
  const auto prepared = hyper.prepare(streams);
  EXPECT_EQ(prepared.branch_input.sizes(), at::IntArrayRef({2, 2, kDim}));
  const auto out = hyper.forward(some({2, 2, kDim}), prepared);
  EXPECT_EQ(out.sizes(), streams.sizes());
  // Nothing of one sequence gets into another.
  auto changed = streams.clone();
  changed.narrow(0, 0, kStreams).add_(1);
  expect_close(hyper.prepare(changed).branch_input[1], prepared.branch_input[1]);
}

TEST(Blocks, TheAdaptiveScaleStartsAtTheSigmoidOfItsBias) {
  BranchInputs inputs;
  inputs.x = some({2, 3, kDim});
  inputs.condition = some({2, 6});
  AdaptiveLayerScale usual({.dim = kDim, .dim_condition = 6}, std::make_shared<Identity>());
  AdaptiveLayerScale open({.dim = kDim, .dim_condition = 6, .init_bias_value = 1.0},
                          std::make_shared<Identity>());
  const auto factor = [](double bias) { return 1 / (1 + std::exp(-bias)); };
  expect_close(usual.run(inputs).out, inputs.x * factor(-2));
  expect_close(open.run(inputs).out, inputs.x * factor(1));
}

TEST(Positions, ThePolarBaseSetsTheFrequencies) {
  const PolarEmbedding polar({.dim = 4, .heads = 2, .base = 100.0});
  const auto angles = polar.forward(at::arange(3))[0];
  for (int64_t position = 0; position < 3; ++position) {
    for (int64_t i = 0; i < 4; ++i) {
      const double expected =
          static_cast<double>(position) * std::pow(100.0, -static_cast<double>(i) / 4);
      EXPECT_NEAR(angles[position][i].item<double>(), expected, 1e-6);
    }
  }
}

}  // namespace
}  // namespace x_transformers::residuals_test
