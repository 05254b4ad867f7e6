#include "x_transformers/nn/block_state.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace x_transformers {
namespace {

TEST(KeyValueCache, AppendsInOrder) {
  const at::NoGradGuard no_grad;
  KeyValueCache cache;
  const auto k = at::randn({2, 3, 7, 4}), v = at::randn({2, 3, 7, 5});
  cache.append(k.narrow(2, 0, 4), v.narrow(2, 0, 4));
  cache.append(k.narrow(2, 4, 1), v.narrow(2, 4, 1));
  const auto [keys, values] = cache.append(k.narrow(2, 5, 2), v.narrow(2, 5, 2));
  EXPECT_EQ(cache.length(), 7);
  EXPECT_TRUE(keys.equal(k));
  EXPECT_TRUE(values.equal(v));
}

TEST(KeyValueCache, OnePartMayBeAbsent) {
  const at::NoGradGuard no_grad;
  KeyValueCache cache;
  const auto [keys, values] = cache.append(at::ones({1, 2, 3}), {});
  EXPECT_EQ(keys.size(1), 2);
  EXPECT_FALSE(values.defined());
}

TEST(KeyValueCache, GradientsFlowThrough) {
  KeyValueCache cache;
  const auto first = at::ones({1, 1, 2, 3}).requires_grad_(),
             second = at::ones({1, 1, 1, 3}).requires_grad_();
  cache.append(first, first);
  cache.append(second, second).first.sum().backward();
  EXPECT_TRUE(first.grad().equal(at::ones_like(first)));
  EXPECT_TRUE(second.grad().equal(at::ones_like(second)));
}

TEST(KeyValueCache, ReorderPicksRows) {
  const at::NoGradGuard no_grad;
  KeyValueCache cache;
  const auto k = at::randn({2, 1, 3, 4});
  cache.append(k, k);
  cache.reorder(at::tensor({1, 1, 0}));
  const auto [keys, values] = cache.view();
  EXPECT_TRUE(keys.equal(at::stack({k[1], k[1], k[0]})));
  EXPECT_TRUE(values.equal(keys));
}

}  // namespace
}  // namespace x_transformers
