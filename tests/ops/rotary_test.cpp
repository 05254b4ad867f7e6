#include "x_transformers/ops/rotary.h"

#include <cmath>

#include "ops/compare_with_reference.h"
#include "x_transformers/core/error.h"

namespace x_transformers {
namespace {

at::Tensor inv_freq(int64_t dim) {
  return at::pow(10000.0, at::arange(0, dim, 2).to(at::kFloat) / -static_cast<double>(dim));
}

at::Tensor xpos_base(int64_t dim) {
  return (at::arange(0, dim, 2).to(at::kFloat) + 0.4 * dim) / (1.4 * dim);
}

class RotaryTest : public testing::Test {
 protected:
  void SetUp() override { at::manual_seed(3); }

  static void expect_rotation(const at::Tensor& t, const RotaryTable& table, bool inverse_scale,
                              at::Tensor (*view)(const at::Tensor&)) {
    ASSERT_EQ(rotary_unsupported(t, table), "");
    expect_like_reference(
        [&](const Tensors& in) { return apply_rotary(view(in[0]), table, inverse_scale); },
        [&](const Tensors& in) {
          return apply_rotary_reference(view(in[0]), table, inverse_scale);
        },
        {t});
  }
};

at::Tensor itself(const at::Tensor& t) { return t; }
at::Tensor heads_first(const at::Tensor& t) { return t.transpose(1, 2); }
at::Tensor features_first(const at::Tensor& t) { return t.transpose(2, 3); }

TEST_F(RotaryTest, EqualsItsReference) {
  const auto table = make_rotary_table(at::arange(7), inv_freq(8));
  expect_rotation(at::randn({2, 3, 7, 8}), table, false, itself);
  expect_rotation(at::randn({2, 3, 7, 13}), table, false, itself);
  expect_rotation(at::randn({2, 7, 3, 16}), table, false, heads_first);
  expect_rotation(at::randn({2, 3, 8, 7}), table, false, features_first);
  expect_rotation(at::randn({0, 3, 7, 8}), table, false, itself);
}

TEST_F(RotaryTest, ScaleOfXposMultipliesOrDivides) {
  const auto table = make_rotary_table(at::arange(9), inv_freq(12), 2.0, xpos_base(12), 16.0);
  ASSERT_TRUE(table.scale.defined());
  for (const bool inverse : {false, true}) {
    expect_rotation(at::randn({2, 9, 2, 20}), table, inverse, heads_first);
  }
}

TEST_F(RotaryTest, PositionsOfEachSequence) {
  const auto positions = at::randint(0, 50, {3, 5});
  const auto table = make_rotary_table(positions, inv_freq(6));
  EXPECT_EQ(table.cos.sizes(), (std::vector<int64_t>{3, 5, 3}));
  expect_rotation(at::randn({3, 2, 5, 8}), table, false, itself);
}

TEST_F(RotaryTest, GradientLiesInMemoryLikeTheInput) {
  const auto table = make_rotary_table(at::arange(5), inv_freq(8));
  const auto leaf = at::randn({2, 5, 3, 8}).transpose(1, 2).requires_grad_();
  const auto gradient =
      torch::autograd::grad({apply_rotary(leaf, table)}, {leaf}, {at::randn({2, 3, 5, 8})})[0];
  EXPECT_EQ(gradient.strides(), leaf.strides());
}

TEST_F(RotaryTest, GradientsOfGradients) {
  const auto table = make_rotary_table(at::arange(5), inv_freq(8), 1.0, xpos_base(8));
  const auto cubed = [](const at::Tensor& t) { return t * t * t; };
  expect_like_reference(
      [&](const Tensors& in) { return cubed(apply_rotary(in[0], table)); },
      [&](const Tensors& in) { return cubed(apply_rotary_reference(in[0], table, false)); },
      {at::randn({1, 2, 5, 8})}, {1e-4, true});
}

TEST_F(RotaryTest, TheLastRowsOfALongerTableAreUsed) {
  const auto table = make_rotary_table(at::arange(9), inv_freq(8));
  const auto own = make_rotary_table(at::arange(6, 9), inv_freq(8));
  const auto t = at::randn({1, 2, 3, 8});
  expect_close(apply_rotary(t, table), apply_rotary(t, own), 1e-6);
}

TEST_F(RotaryTest, TableFollowsTheFormula) {
  const auto table = make_rotary_table(at::tensor({0, 3, 10}), inv_freq(4), 2.0, xpos_base(4), 8.0);
  const double angle = 10 * std::pow(10000.0, -0.5) / 2.0;
  EXPECT_NEAR(table.cos[0][2][1].item<float>(), std::cos(angle), 1e-6);
  EXPECT_NEAR(table.sin[0][2][1].item<float>(), std::sin(angle), 1e-6);
  // The centre is (10 + 1) / 2 rounded down.
  const double base = (2 + 0.4 * 4) / (1.4 * 4);
  EXPECT_NEAR(table.scale[0][1][1].item<float>(), std::pow(base, (3 - 5) / 8.0), 1e-6);
  const auto centred = make_rotary_table(at::tensor({3}), inv_freq(4), 2.0, xpos_base(4), 8.0, 1.0);
  EXPECT_NEAR(centred.scale[0][0][1].item<float>(), std::pow(base, (3 - 1) / 8.0), 1e-6);
}

TEST_F(RotaryTest, OtherDtypes) {
  const auto table = make_rotary_table(at::arange(4), inv_freq(8));
  const auto t = at::randn({1, 2, 4, 10});
  const auto expected = apply_rotary(t, table);
  const auto doubled = apply_rotary(t.to(at::kDouble), table);
  EXPECT_EQ(doubled.scalar_type(), at::kDouble);
  expect_close(doubled, expected, 1e-6);
  expect_as_good_as_reference(
      [&](const Tensors& in) { return apply_rotary(in[0], table); },
      [&](const Tensors& in) { return apply_rotary_reference(in[0], table); }, {t}, at::kBFloat16);
}

TEST_F(RotaryTest, BadInput) {
  const auto table = make_rotary_table(at::arange(4), inv_freq(8));
  EXPECT_THROW(apply_rotary(at::randn({2, 4, 8}), table), InputError);
  EXPECT_THROW(apply_rotary(at::randn({2, 1, 5, 8}), table), InputError);
  EXPECT_THROW(apply_rotary(at::randn({2, 1, 4, 6}), table), InputError);
  const auto two = make_rotary_table(at::zeros({2, 4}), inv_freq(8));
  EXPECT_THROW(apply_rotary(at::randn({3, 1, 4, 8}), two), InputError);
  EXPECT_THROW(make_rotary_table(at::zeros({1, 2, 3}), inv_freq(8)), InputError);
}

}  // namespace
}  // namespace x_transformers
