#include "x_transformers/ops/linear_three.h"

#include "ops/compare_with_reference.h"
#include "ops/cuda_device.h"
#include "x_transformers/ops/linear.h"

namespace x_transformers {
namespace {

TEST(LinearThree, EqualsThreeLayers) {
  at::manual_seed(2);
  const Tensors inputs = {at::randn({2, 5, 8}), at::randn({6, 8}), at::randn({3, 8}),
                          at::randn({3, 8})};
  const auto joined = [](const std::array<at::Tensor, 3>& all) {
    return at::cat({all[0].sin(), all[1].cos(), all[2].square()}, -1);
  };
  const auto expected = run_op(
      [&](const Tensors& t) {
        const at::Tensor none;
        return joined({linear_reference(t[0], t[1], none), linear_reference(t[0], t[2], none),
                       linear_reference(t[0], t[3], none)});
      },
      inputs, at::kDouble, true);
  for (const auto device : {at::kCPU, at::kCUDA}) {
    if (device == at::kCUDA && !no_cuda().empty()) continue;
    Tensors moved;
    for (const auto& t : inputs) moved.push_back(t.to(device));
    const auto got = run_op(
        [&](const Tensors& t) {
          return joined(linear_three(t[0], {t[1], t[2], t[3]}));
        },
        moved, at::kFloat, true);
    expect_close(got.output.cpu(), expected.output);
    for (size_t i = 0; i < expected.gradients.size(); ++i) {
      expect_close(got.gradients[i].cpu(), expected.gradients[i], 1e-4);
      expect_close(got.second[i].cpu(), expected.second[i], 1e-3, 1e-3);
    }
  }
}

TEST(LinearThree, NormalisesFirst) {
  at::manual_seed(2);
  const at::NoGradGuard no_grad;
  const auto x = at::randn({2, 5, 8}), gamma = at::randn({8});
  const std::array<at::Tensor, 3> weights = {at::randn({6, 8}), at::randn({3, 8}),
                                             at::randn({3, 8})};
  for (const auto kind : {RowNorm::Kind::layer, RowNorm::Kind::rms}) {
    const RowNorm norm{kind, gamma, 1.0};
    const auto got = linear_three(x, weights, {.norm = norm});
    for (size_t i = 0; i < weights.size(); ++i)
      expect_close(got[i], linear_reference(normalised(x, norm), weights[i], {}));
  }
}

TEST(LinearThree, OfOneOutputAloneHasItsGradient) {
  at::manual_seed(2);
  const auto device = no_cuda().empty() ? at::kCUDA : at::kCPU;
  const auto x = at::randn({4, 8}, device).requires_grad_();
  std::array<at::Tensor, 3> weights;
  for (auto& w : weights) w = at::randn({3, 8}, device).requires_grad_();
  linear_three(x, weights)[1].sum().backward();
  expect_close(x.grad().cpu(), weights[1].detach().sum(0, true).expand({4, 8}).cpu());
  EXPECT_TRUE(weights[1].grad().defined());
  for (const size_t i : {0, 2})
    EXPECT_TRUE(!weights[i].grad().defined() || weights[i].grad().eq(0).all().item<bool>());
}

}  // namespace
}  // namespace x_transformers
