#include "x_transformers/optim/gradients.h"

#include <gtest/gtest.h>

#include <cmath>

namespace x_transformers {
namespace {

TEST(GradientsTest, NormIsOverAllElements) {
  const std::vector<at::Tensor> gradients{at::full({2, 2}, 3.0), {}, at::full({1}, 8.0)};
  EXPECT_FLOAT_EQ(gradient_norm(gradients).item<float>(), 10.0F);
  EXPECT_EQ(gradient_norm({at::Tensor()}).item<float>(), 0.0F);
  EXPECT_TRUE(
      std::isnan(gradient_norm({at::ones({3}), at::full({1}, std::nan(""))}).item<float>()));
}

TEST(GradientsTest, BfloatNormIsSummedInFullPrecision) {
  // In bf16 the sum of squares would stop growing at 256.
  const at::Tensor norm = gradient_norm({at::ones({4096}, at::kBFloat16)});
  EXPECT_EQ(norm.scalar_type(), at::kFloat);
  EXPECT_FLOAT_EQ(norm.item<float>(), 64.0F);
}

TEST(GradientsTest, ClipsLargeAndLeavesSmall) {
  const std::vector<at::Tensor> gradients{at::full({2, 2}, 3.0), {}, at::full({1}, 8.0)};
  EXPECT_FLOAT_EQ(clip_grad_norm(gradients, 1.0).item<float>(), 10.0F);
  EXPECT_NEAR(gradient_norm(gradients).item<float>(), 1.0F, 1e-5);
  EXPECT_NEAR(gradients[2].item<float>(), 0.8F, 1e-5);
  const at::Tensor before = gradients[0].clone();
  clip_grad_norm(gradients, 100.0);
  EXPECT_TRUE(at::equal(gradients[0], before));
}

TEST(GradientsTest, CollectsOverPassesInFullPrecision) {
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    const std::vector<at::Tensor> parameters{at::ones({3}, type).requires_grad_(true),
                                             at::ones({2}, type).requires_grad_(true)};
    GradientCollector collector(parameters);
    for (int round = 0; round < 2; ++round) {  // the second finds nothing of the first
      collector.begin();
      for (int pass = 0; pass < 512; ++pass) {
        parameters[0].sum().backward();
        collector.collect();
      }
      ASSERT_TRUE(collector.gradients()[0].defined());
      EXPECT_EQ(collector.gradients()[0].scalar_type(), at::kFloat);
      EXPECT_TRUE(at::equal(collector.gradients()[0], at::full({3}, 512.0))) << c10::toString(type);
      EXPECT_FALSE(collector.gradients()[1].defined());
    }
  }
}

TEST(GradientsTest, OfASinglePassTheyMayStayAsTheyAre) {
  const std::vector<at::Tensor> parameters{at::ones({3}, at::kBFloat16).requires_grad_(true)};
  GradientCollector collector(parameters, true);
  for (const int passes : {1, 2, 300, 1}) {
    collector.begin();
    for (int pass = 0; pass < passes; ++pass) {
      parameters[0].sum().backward();
      collector.collect();
    }
    const auto& gradient = collector.gradients()[0];
    EXPECT_EQ(gradient.scalar_type(), passes == 1 ? at::kBFloat16 : at::kFloat);
    EXPECT_TRUE(at::equal(gradient.to(at::kFloat), at::full({3}, static_cast<double>(passes))));
    EXPECT_FALSE(parameters[0].grad().defined());
  }
}

}  // namespace
}  // namespace x_transformers
