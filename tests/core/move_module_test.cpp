#include "x_transformers/core/move_module.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace x_transformers {
namespace {

struct WithBuffers : torch::nn::Module {
  WithBuffers() {
    weight = register_parameter("weight", at::ones({2}));
    average = register_buffer("average", at::ones({2}));
    count = register_buffer("count", at::tensor({3}, at::kLong));
    seen = register_buffer("seen", at::ones({1}, at::kBool));
  }
  at::Tensor weight, average, count, seen;
};

TEST(MoveModule, OnlyFloatsTakeTheType) {
  WithBuffers module;
  move_module(module, at::kCPU, at::kBFloat16);
  EXPECT_EQ(module.weight.scalar_type(), at::kBFloat16);
  EXPECT_EQ(module.average.scalar_type(), at::kBFloat16);
  EXPECT_EQ(module.count.scalar_type(), at::kLong);
  EXPECT_EQ(module.seen.scalar_type(), at::kBool);
  EXPECT_EQ(module.count.item<int64_t>(), 3);
  EXPECT_TRUE(module.count.is_same(module.buffers()[1])) << "the module holds the same tensor";
}

}  // namespace
}  // namespace x_transformers
