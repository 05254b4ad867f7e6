#include "x_transformers/ops/rows.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace x_transformers {
namespace {

TEST(WithRows, RepeatsOneRowAlone) {
  const auto one = at::ones({1, 4}), two = at::ones({2, 1, 4});
  EXPECT_EQ(with_rows(one, 3).sizes(), at::IntArrayRef({3, 4}));
  EXPECT_EQ(with_rows(two, 3, 1).sizes(), at::IntArrayRef({2, 3, 4}));
  EXPECT_TRUE(with_rows(two, 3).is_same(two));
  EXPECT_TRUE(with_rows(one, 1).is_same(one));
  EXPECT_FALSE(with_rows({}, 3).defined());
}

TEST(CatRows, RepeatsEitherSide) {
  const auto one = at::zeros({1, 2}), three = at::ones({3, 4});
  const auto expected = at::cat({at::zeros({3, 2}), three}, 1);
  EXPECT_TRUE(cat_rows(one, three, 1).equal(expected));
  EXPECT_TRUE(cat_rows(three, one, -1).equal(expected.flip(1)));
}

}  // namespace
}  // namespace x_transformers
