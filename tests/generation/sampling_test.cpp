#include "x_transformers/generation/sampling.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

#include "x_transformers/core/error.h"

namespace x_transformers::sampling_test {
namespace {

at::Tensor logits() {
  return at::tensor(
             {0.1, 2.0, -1.0, 1.5, 0.7, -3.0, 2.2, 0.0, 3.0, -2.0, 0.5, 0.4, 0.3, -0.2, 1.0, 2.9},
             at::kFloat)
      .view({2, 8});
}

const at::Device kCpu(at::kCPU);

TEST(SampleTokens, TemperatureZeroTakesTheHighest) {
  EXPECT_TRUE(sample_tokens(logits(), 0).equal(at::tensor({6, 0}, at::kLong)));
}

TEST(SampleTokens, DrawsWhatMultinomialDrawsFromTheSameSeed) {
  const auto many = logits().repeat({50, 1});
  auto generator = at::globalContext().defaultGenerator(kCpu).clone();
  generator.set_current_seed(42);
  const auto expected = ((many / 0.7).softmax(-1)).multinomial(1, false, generator).squeeze(1);
  const auto drawn = sample_tokens(many, 0.7, seeded_generator(42, kCpu));
  EXPECT_TRUE(drawn.equal(expected));
  EXPECT_FALSE(drawn.equal(sample_tokens(many, 0.7, seeded_generator(43, kCpu))));
}

TEST(SampleTokens, DrawsAsOftenAsTheProbabilitiesSay) {
  constexpr int64_t kDraws = 40000;
  const auto row = logits().select(0, 0);
  const auto drawn = sample_tokens(row.expand({kDraws, 8}), 1.5, seeded_generator(1, kCpu));
  const auto share = drawn.bincount({}, 8).to(at::kFloat) / kDraws;
  EXPECT_LT((share - (row / 1.5).softmax(-1)).abs().max().item<float>(), 0.01);
}

TEST(SampleTokens, NeverDrawsWhatIsRuledOut) {
  const auto filtered =
      logits().masked_fill(logits() < 1, -std::numeric_limits<double>::infinity());
  const auto drawn = sample_tokens(filtered.repeat({500, 1}), 5, seeded_generator(1, kCpu));
  const auto chosen = logits().repeat({500, 1}).gather(1, drawn.unsqueeze(1));
  EXPECT_GE(chosen.min().item<float>(), 1);
}

TEST(SampleTokens, RefusesRowsThatAreNoDistribution) {
  const double infinity = std::numeric_limits<double>::infinity();
  EXPECT_THROW(sample_tokens(at::full({1, 3}, std::nan("")), 1), RunError);
  EXPECT_THROW(sample_tokens(at::full({1, 3}, std::nan("")), 0), RunError);
  EXPECT_THROW(sample_tokens(at::full({1, 3}, -infinity), 1), RunError);
}

TEST(SeededGenerator, LeavesTheDefaultGeneratorAlone) {
  at::manual_seed(9);
  const auto expected = at::rand({4});
  at::manual_seed(9);
  sample_tokens(logits(), 1, seeded_generator(3, kCpu));
  EXPECT_TRUE(at::rand({4}).equal(expected));
  EXPECT_FALSE(seeded_generator(std::nullopt, kCpu).has_value());
}

// Tokens found with x-transformers 2.16.1 after torch.manual_seed(2).
TEST(GumbelSample, DrawsWhatPythonDraws) {
  const auto drawn = gumbel_sample(logits(), 0.7, seeded_generator(2, kCpu));
  EXPECT_TRUE(drawn.equal(at::tensor({6, 7}, at::kLong)));
}

TEST(SampleTokens, AnyTemperatureAboveZeroIsOne) {
  const auto infinity = std::numeric_limits<double>::infinity();
  for (const auto dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
    const auto logits =
        at::tensor({30., 900., -infinity, 800.}, at::kDouble).to(dtype).unsqueeze(0);
    for (const double temperature : {1e-320, 1e-300, 1e-45, 1e-38, 1e-30, 1e-6}) {
      EXPECT_EQ(sample_tokens(logits, temperature).item<int64_t>(), 1) << dtype << temperature;
    }
    for (const double temperature : {1e6, 1e38, 1e39, 1e308}) {
      at::manual_seed(0);
      std::set<int64_t> drawn;
      for (int i = 0; i < 60; ++i) drawn.insert(sample_tokens(logits, temperature).item<int64_t>());
      EXPECT_EQ(drawn, (std::set<int64_t>{0, 1, 3})) << dtype << temperature;
    }
  }
}

TEST(SampleTokens, EqualLogitsOf16BitsAreEquallyLikely) {
  constexpr int64_t kTokens = 4096, kDraws = 2000;
  at::manual_seed(0);
  for (const auto dtype : {at::kBFloat16, at::kHalf}) {
    const auto logits = at::zeros({kDraws, kTokens}, dtype);
    for (const auto& drawn : {sample_tokens(logits, 1), gumbel_sample(logits)}) {
      const auto mean = drawn.to(at::kDouble).mean().item<double>() / kTokens;
      EXPECT_NEAR(mean, 0.5, 0.05) << dtype;  // six and a half times its spread
    }
  }
}

TEST(SampleTokens, EqualLogitsStayEquallyLikelyAtTheLowestTemperature) {
  at::manual_seed(0);
  const auto logits = at::tensor({5., 5., 1.}).unsqueeze(0);
  std::set<int64_t> drawn;
  for (int i = 0; i < 60; ++i) drawn.insert(sample_tokens(logits, 1e-200).item<int64_t>());
  EXPECT_EQ(drawn, (std::set<int64_t>{0, 1}));
}

TEST(GumbelSample, TemperatureZeroTakesTheHighest) {
  EXPECT_TRUE(gumbel_sample(logits(), 0).equal(at::tensor({6, 0}, at::kLong)));
}

TEST(GumbelNoise, HasTheMeanOfItsDistribution) {
  const auto noise = gumbel_noise(at::empty({100000}), seeded_generator(1, kCpu));
  EXPECT_NEAR(noise.mean().item<double>(), 0.57722, 0.02);
  EXPECT_TRUE(noise.isfinite().all().item<bool>());
}

}  // namespace
}  // namespace x_transformers::sampling_test
