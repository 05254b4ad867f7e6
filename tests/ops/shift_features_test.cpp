// Token shift of features.
#include "x_transformers/ops/shift_features.h"

#include "ops/compare_with_reference.h"
#include "x_transformers/core/error.h"

namespace x_transformers {
namespace {

at::Tensor shifted_by_cat(const at::Tensor& x, int64_t count, const at::Tensor& before) {
  const auto first =
      before.defined() ? before : at::zeros_like(x.narrow(1, 0, 1).narrow(2, 0, count));
  const auto moved = at::cat({first, x.narrow(2, 0, count).narrow(1, 0, x.size(1) - 1)}, 1);
  return at::cat({moved, x.narrow(2, count, x.size(2) - count)}, 2);
}

TEST(ShiftFeatures, MovesTheFirstOnesToTheNextToken) {
  for (const int64_t n : {1, 2, 7}) {
    for (const int64_t count : {0, 3, 5}) {
      for (const bool has_before : {false, true}) {
        SCOPED_TRACE(std::to_string(n) + " tokens, " + std::to_string(count) + " features");
        const auto op = [&](const auto& shift) {
          return [&, shift](const Tensors& t) { return shift(t[0], count, t[1]); };
        };
        const Tensors inputs{at::randn({2, n, 5}),
                             has_before ? at::randn({2, 1, count}) : at::Tensor()};
        expect_like_reference(op(shift_features), op(shifted_by_cat), inputs);
      }
    }
  }
}

TEST(ShiftFeatures, GradientsAreDifferentiable) {
  const auto x = at::randn({2, 4, 5}, at::kDouble).requires_grad_();
  const auto weights = at::randn({2, 4, 5}, at::kDouble);
  const auto second = [&](const auto& shift) {
    const auto y = shift(x.square(), 3, at::Tensor());
    const auto first = torch::autograd::grad({y.square().sum()}, {x}, {}, true, true)[0];
    return torch::autograd::grad({(first * weights).sum()}, {x})[0];
  };
  EXPECT_TRUE(at::allclose(second(shift_features), second(shifted_by_cat)));
}

TEST(ShiftFeatures, RefusesMoreFeaturesThanThereAre) {
  EXPECT_THROW(shift_features(at::ones({1, 2, 3}), 4), InputError);
}

}  // namespace
}  // namespace x_transformers
