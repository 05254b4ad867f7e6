#include "x_transformers/ops/linear_ends.h"

#include "ops/compare_with_reference.h"
#include "x_transformers/ops/linear.h"

namespace x_transformers {
namespace {

TEST(LinearEnds, AreOneOpAfterTheOther) {
  at::manual_seed(2);
  const at::NoGradGuard no_grad;
  const auto x = at::randn({2, 3, 8}), gamma = at::randn({8}), weight = at::randn({6, 8}),
             bias = at::randn({6});
  expect_close(linear_with_ends(x, weight, bias, {}), linear_reference(x, weight, bias));
  const auto residual = at::randn({2, 3, 6}), half = at::randn({2, 3, 3});
  expect_close(linear_with_ends(x, weight, {},
                                {.norm = RowNorm{RowNorm::Kind::layer, gamma, 1.0},
                                 .activation = Activation::gelu,
                                 .residual = residual}),
               at::gelu(linear_reference(layer_norm(x, gamma, 1.0), weight, {})) + residual);
  const auto halves = linear_reference(rms_norm(x, gamma), weight, bias).chunk(2, -1);
  expect_close(linear_with_ends(x, weight, bias,
                                {.norm = RowNorm{RowNorm::Kind::rms, gamma, 0.0},
                                 .activation = Activation::silu,
                                 .gated = true,
                                 .residual = half}),
               halves[0] * at::silu(halves[1]) + half);
}

TEST(LinearEnds, AreLeftToABranchForFewRowsOnCudaOnly) {
  EXPECT_FALSE(takes_ends(at::randn({1, 1, 8})));
  EXPECT_FALSE(takes_ends(at::randn({1, 1, 8}).to(at::kBFloat16)));
}

}  // namespace
}  // namespace x_transformers
