#include "x_transformers/core/dry_run.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/linear.h>

#include <cstdint>

namespace x_transformers {
namespace {

TEST(DryRun, MakesNoMemoryForAsLongAsItLives) {
  {
    const DryRun dry;
    // Two TB, which no machine of ours has.
    torch::nn::Linear linear(int64_t{1} << 20, int64_t{1} << 19);
    const auto y = linear->forward(at::rand({4, int64_t{1} << 20}));
    EXPECT_TRUE(y.is_meta());
    EXPECT_EQ(y.sizes(), (std::vector<int64_t>{4, int64_t{1} << 19}));
    EXPECT_TRUE(at::ones({2}, at::kCPU).is_meta());
  }
  EXPECT_TRUE(at::ones({2}).is_cpu());
}

TEST(DryRun, KnowsTheShapesThatPyTorchDoesNot) {
  const DryRun dry;
  const auto x = at::rand({2, 3, 4});
  const auto ids = at::zeros({5}, at::kLong);
  EXPECT_EQ(at::embedding(x[0], ids).sizes(), (std::vector<int64_t>{5, 4}));
  EXPECT_EQ(at::where(x > 0, x, -x).sizes(), x.sizes());
  EXPECT_EQ(at::logcumsumexp(x.flip({1}), 1).sizes(), x.sizes());
  EXPECT_EQ(at::cdist(x, x).sizes(), (std::vector<int64_t>{2, 3, 3}));
  EXPECT_EQ(at::layer_norm(x, {4}).sizes(), x.sizes());
  EXPECT_EQ(at::conv1d(x, at::rand({7, 3, 2})).sizes(), (std::vector<int64_t>{2, 7, 3}));
  EXPECT_TRUE(at::searchsorted(at::zeros({3}, at::kLong), ids).is_meta());
  EXPECT_TRUE(at::empty_like(x).exponential_().is_meta());
}

TEST(DryRun, NumbersThatTheHostReadsAreZero) {
  const DryRun dry;
  EXPECT_EQ(at::ones({3}, at::kLong).sum().item<int64_t>(), 0);
  EXPECT_EQ((at::ones({3}, at::kLong) > 0).cpu().nonzero().size(0), 0);
}

TEST(DryRun, ResultsThatAreGivenToBeWrittenGetTheirSize) {
  const DryRun dry;
  const auto x = at::empty({3, 4}, at::kLong);
  EXPECT_EQ(x.abs().sizes(), x.sizes());
  EXPECT_EQ(x.to(at::kFloat).sign().sizes(), x.sizes());
  auto out = at::empty({0}, at::kLong);
  at::abs_out(out, x);
  EXPECT_EQ(out.sizes(), x.sizes());
}

}  // namespace
}  // namespace x_transformers
