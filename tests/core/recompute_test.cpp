// Activations made again in the backward pass.
#include "x_transformers/core/recompute.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/variable.h>

#include <functional>
#include <memory>
#include <optional>
#include <vector>

namespace x_transformers {
namespace {

struct Nothing : torch::nn::Module {};

struct Stack : torch::nn::Module, RecomputedStack {
  void set_recomputed_blocks(int64_t count) override { blocks = count; }
  int64_t blocks = 0;
};

at::Tensor leaf(const std::vector<int64_t>& shape, uint64_t seed) {
  at::manual_seed(seed);
  return at::randn(shape).set_requires_grad(true);
}

/// Products and dropout, twice over, each part recomputed where asked for.
struct Chain {
  at::Tensor weight = leaf({6, 6}, 1), x = leaf({5, 6}, 2);
  int64_t runs = 0;

  Chain() {
    Nothing module;
    set_recomputed_blocks(module, 1);
  }
  at::Tensor part(const at::Tensor& input) {
    ++runs;
    return at::dropout(at::gelu(at::matmul(input, weight)), 0.5, true).tanh();
  }
  at::Tensor loss(bool is_recomputed) {
    at::manual_seed(3);
    auto y = x * 2;
    for (int i = 0; i < 2; ++i) {
      std::optional<Recomputing> recomputing;
      if (is_recomputed) recomputing.emplace([this, y] { part(y); }, at::kCPU);
      y = part(y);
    }
    return y.square().sum();
  }
};

TEST(Recomputing, GivesTheSameGradientsWithTheSameRandomNumbers) {
  Chain plain, again;
  plain.loss(false).backward();
  const auto next = at::randn({3});
  const auto loss = again.loss(true);
  EXPECT_EQ(again.runs, 2);
  const auto outside = at::randn({3});
  EXPECT_TRUE(at::equal(outside, next));
  loss.backward();
  EXPECT_EQ(again.runs, 4);
  EXPECT_TRUE(at::equal(plain.weight.grad(), again.weight.grad()));
  EXPECT_TRUE(at::equal(plain.x.grad(), again.x.grad()));
  // The pass has drawn what it drew before, and left the generator as it was.
  at::manual_seed(9);
  const auto expected = at::randn({3});
  at::manual_seed(9);
  Chain third;
  const auto third_loss = third.loss(true);
  at::manual_seed(9);
  third_loss.backward();
  EXPECT_TRUE(at::equal(at::randn({3}), expected));
}

TEST(Recomputing, KeepsNoTensorFromTheForwardToTheBackwardPass) {
  Chain chain;
  c10::weak_intrusive_ptr<c10::StorageImpl> storage{c10::intrusive_ptr<c10::StorageImpl>()};
  const auto run = [&](bool is_recomputed) {
    const auto middle = [&](const at::Tensor& x) {
      const auto activation = at::matmul(x, chain.weight).exp();  // exp keeps what it gives
      storage = c10::weak_intrusive_ptr<c10::StorageImpl>(
          c10::intrusive_ptr<c10::StorageImpl>::reclaim_copy(
              activation.storage().unsafeGetStorageImpl()));
      return activation * chain.weight.narrow(0, 0, 5);  // and so does the product
    };
    std::optional<Recomputing> recomputing;
    if (is_recomputed) recomputing.emplace([&] { middle(chain.x); }, at::kCPU);
    return middle(chain.x).sum();
  };
  const auto kept = run(false);
  EXPECT_FALSE(storage.expired());
  const auto left_out = run(true);
  EXPECT_TRUE(storage.expired());
}

TEST(Recomputing, IsPartOfAnother) {
  Chain plain, again;
  plain.loss(false).backward();
  {
    const auto loss = [&] {
      const Recomputing outer([&] { again.loss(true); }, at::kCPU);
      return again.loss(true);
    }();
    loss.backward();
  }
  EXPECT_TRUE(at::equal(plain.weight.grad(), again.weight.grad()));
}

TEST(Recomputing, RefusesOperationsThatAreNotTheSame) {
  Chain chain;
  const auto expect_refusal = [&](const std::function<void()>& other) {
    const auto loss = [&] {
      const Recomputing recomputing(other, at::kCPU);
      return chain.part(chain.x).sum();
    }();
    EXPECT_THROW(loss.backward(), c10::Error);
  };
  expect_refusal([] {});
  expect_refusal([&] { chain.part(at::cat({chain.x, chain.x})); });
}

TEST(SetRecomputedBlocks, FindsTheStacks) {
  Nothing none;
  EXPECT_FALSE(set_recomputed_blocks(none, 2));
  Nothing holder;
  const auto stack = holder.register_module("stack", std::make_shared<Stack>());
  EXPECT_TRUE(set_recomputed_blocks(holder, 2));
  EXPECT_EQ(stack->blocks, 2);
}

/// What is drawn again would be other noise within a graph.
TEST(RecomputedCapture, IsNotOfWhatDraws) {
  EXPECT_EQ(recomputed_capture_unsupported({}), Text());
  const auto reason = Notice{{}, recomputed_capture_unsupported("ff_dropout")}.line();
  EXPECT_TRUE(reason.starts_with("ff_dropout: ")) << reason;
}

}  // namespace
}  // namespace x_transformers
