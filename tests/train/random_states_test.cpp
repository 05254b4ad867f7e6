#include "x_transformers/train/random_states.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "x_transformers/core/error.h"
#include "x_transformers/core/generator_state.h"

namespace x_transformers {
namespace {

TEST(RandomStates, ComeBack) {
  at::manual_seed(5);
  at::randn({3});
  const auto source = process_generators();
  const RandomState state = random_state(source, at::kCPU);
  const at::Tensor first = at::randn({20});
  set_random_state(source, state, at::kCPU);
  EXPECT_TRUE(at::equal(at::randn({20}), first));
  EXPECT_THROW(set_random_state(source, {"AAAA", {}}, at::kCPU), InputError);
  set_random_state(source, state, at::kCPU);
  {
    const RandomStateGuard guard(at::kCPU);
    at::randn({7});
  }
  EXPECT_TRUE(at::equal(at::randn({20}), first));
}

}  // namespace
}  // namespace x_transformers
