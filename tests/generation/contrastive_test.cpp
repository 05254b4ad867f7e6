#include "x_transformers/generation/contrastive.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>

#include "x_transformers/core/error.h"

namespace x_transformers::contrastive_test {
namespace {

at::Tensor expert() {
  return at::tensor(
             {0.1, 2.0, -1.0, 1.5, 0.7, -3.0, 2.2, 0.0, 3.0, -2.0, 0.5, 0.4, 0.3, -0.2, 1.0, 2.9},
             at::kFloat)
      .view({2, 8});
}

// Numbers of x-transformers 2.16.1 with alpha given as a tensor, for its default fails.
TEST(ContrastiveDecode, EqualsPython) {
  const double out = std::numeric_limits<float>::lowest();
  const auto expected = at::tensor({0.15, 1.9, out, 1.9, 0.3, out, 2.3, -0.05,  //
                                    3.05, out, out, out, out, out, 2.5, 2.85},
                                   at::kFloat)
                            .view({2, 8});
  EXPECT_TRUE(contrastive_decode_fn(expert(), expert().flip(1)).allclose(expected, 1e-6, 1e-6));
}

TEST(ContrastiveDecode, WithoutBetaItIsTheExpert) {
  const auto result = contrastive_decode_fn(expert(), expert().flip(1), {.beta = 0, .alpha = 1e-9});
  EXPECT_TRUE(result.equal(expert()));
}

TEST(ContrastiveDecode, RefusesAnotherVocabulary) {
  EXPECT_THROW(contrastive_decode_fn(expert(), at::zeros({2, 9})), InputError);
}

TEST(ContrastiveDecode, RefusesOptionsOutOfRange) {
  EXPECT_THROW(validate(ContrastiveDecodeOptions{.beta = 0.5, .alpha = 0}), InputError);
  EXPECT_THROW(validate(ContrastiveDecodeOptions{.beta = 0.5, .alpha = 1.5}), InputError);
  EXPECT_THROW(validate(ContrastiveDecodeOptions{.beta = std::numeric_limits<double>::infinity()}),
               InputError);
  EXPECT_NO_THROW(validate(ContrastiveDecodeOptions{}));
}

}  // namespace
}  // namespace x_transformers::contrastive_test
