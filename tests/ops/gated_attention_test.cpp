// Attention without a softmax: engines against each other and against the formula.
#include "x_transformers/ops/gated_attention.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <numbers>

#include "x_transformers/core/error.h"

namespace x_transformers::gated_attention_test {
namespace {

struct Given {
  at::Tensor q, k, v, bias;
  GatedAttend how;
};

Given make(int64_t queries, int64_t keys, at::ScalarType type = at::kDouble) {
  at::manual_seed(5);
  const auto options = at::TensorOptions().dtype(type);
  Given given{at::randn({2, queries, 4}, options),
              at::randn({2, keys, 4}, options),
              at::randn({2, keys, 6}, options),
              at::randn({queries, keys}, options),
              {}};
  given.how.scale = 0.3;
  given.how.bias = given.bias;
  return given;
}

/// Output and gradients by q, k, v and bias.
std::vector<at::Tensor> run(const std::string& engine, const Given& given, bool keep = false) {
  std::vector<at::Tensor> inputs;
  for (const auto& t : {given.q, given.k, given.v, given.bias})
    inputs.push_back(t.detach().clone().requires_grad_());
  auto how = given.how;
  if (how.bias.defined()) how.bias = inputs[3];
  const auto out = gated_attend_on(engine, inputs[0], inputs[1], inputs[2], how);
  auto results = torch::autograd::grad({out.pow(3).sum()}, inputs, {}, keep, keep, true);
  results.insert(results.begin(), out);
  return results;
}

void expect_same(const Given& given) {
  const auto expected = run("reference", given), got = run("one_matrix", given);
  for (size_t i = 0; i < expected.size(); ++i) {
    ASSERT_EQ(expected[i].defined(), got[i].defined()) << i;
    if (!expected[i].defined()) continue;
    EXPECT_TRUE(at::allclose(got[i], expected[i], 1e-9, 1e-12)) << i;
  }
}

TEST(GatedAttention, IsTheFormulaOfThePaper) {
  const auto given = make(5, 5);
  const auto scores = given.q.matmul(given.k.transpose(1, 2)) * 0.3 + given.bias;
  const auto weights = at::relu(scores) * at::relu(scores);
  EXPECT_TRUE(
      at::allclose(gated_attend(given.q, given.k, given.v, given.how), weights.matmul(given.v)));
}

TEST(GatedAttention, EnginesAgree) {
  for (const bool causal : {false, true}) {
    auto given = make(5, 9);
    given.how.causal = causal;
    expect_same(given);
    given.how.bias = at::Tensor();
    expect_same(given);
  }
}

TEST(GatedAttention, ABiasForEachSequenceOrForAll) {
  for (const auto& shape : {std::vector<int64_t>{2, 5, 9}, {1, 5, 9}, {2, 1, 9}, {5, 1}}) {
    auto given = make(5, 9);
    given.bias = given.how.bias = at::randn(shape, given.q.options());
    expect_same(given);
  }
}

TEST(GatedAttention, GradientsOfGradientsGoByTheReference) {
  auto given = make(3, 4);
  const auto second = [&](const std::string& engine) {
    const auto first = run(engine, given, /*keep=*/true);
    return first[1].pow(2).sum().item<double>();
  };
  EXPECT_NEAR(second("one_matrix"), second("reference"), 1e-9);
}

TEST(GatedAttention, QueriesStandAtTheLastKeys) {
  auto given = make(3, 7);
  given.how.causal = true;
  const auto before = gated_attend(given.q, given.k, given.v, given.how);
  given.v.select(1, 6).fill_(9.0);
  const auto after = gated_attend(given.q, given.k, given.v, given.how);
  EXPECT_TRUE(at::equal(before.narrow(1, 0, 2), after.narrow(1, 0, 2)));
}

TEST(GatedAttention, TheLaplacianIsADistributionFunction) {
  const auto x = at::linspace(-0.2, 1.6, 29, at::kDouble);
  const auto y = laplace_attn_fn(x);
  EXPECT_NEAR(laplace_attn_fn(at::full({1}, std::sqrt(0.5), at::kDouble)).item<double>(), 0.5,
              1e-12);
  EXPECT_TRUE((y.diff() > 0).all().item<bool>());
  // Close to the squared relu around its mean (arXiv:2209.10655).
  const auto step = 1e-5;
  const auto at_mean = at::full({1}, std::sqrt(0.5), at::kDouble);
  const auto slope =
      (laplace_attn_fn(at_mean + step) - laplace_attn_fn(at_mean - step)).item<double>() /
      (2 * step);
  EXPECT_NEAR(slope, std::sqrt(2.0), 1e-6);
}

TEST(GatedAttention, SaysWhyAnEngineCannot) {
  auto given = make(3, 3);
  given.how.fn = GatedAttnFn::laplace;
  const auto reports = explain_gated_attend(given.q, given.k, given.v, given.how);
  ASSERT_EQ(reports.size(), 3u);
  EXPECT_EQ(reports[0].reasons.front(), "it knows the squared relu alone");
  EXPECT_EQ(reports[1].reasons, std::vector<std::string>{"it knows the squared relu alone"});
  EXPECT_THROW(gated_attend_on("one_matrix", given.q, given.k, given.v, given.how), InputError);
  EXPECT_THROW(gated_attend(given.q, given.k, given.v.narrow(1, 0, 2), given.how), InputError);
}

}  // namespace
}  // namespace x_transformers::gated_attention_test
