#include "x_transformers/ops/attend_cpu.h"

#include <cmath>

#include "ops/compare_with_reference.h"
#include "x_transformers/core/error.h"

namespace x_transformers {
namespace {

struct Shape {
  int64_t batch, heads, kv_heads, queries, keys, dim, value_dim;
};

void PrintTo(const Shape& s, std::ostream* out) {
  *out << s.batch << " x " << s.heads << "/" << s.kv_heads << " heads, " << s.queries << " x "
       << s.keys << ", " << s.dim << "/" << s.value_dim;
}

Tensors random_qkv(const Shape& s) {
  return {at::randn({s.batch, s.heads, s.queries, s.dim}),
          at::randn({s.batch, s.kv_heads, s.keys, s.dim}),
          at::randn({s.batch, s.kv_heads, s.keys, s.value_dim})};
}

void expect_attention(const Shape& s, const FlashAttentionCpuOptions& options,
                      const Compared& compared = {}) {
  const auto qkv = random_qkv(s);
  ASSERT_EQ(flash_attention_cpu_unsupported(qkv[0], qkv[1], qkv[2], options), "");
  expect_like_reference(
      [&](const Tensors& t) { return flash_attention_cpu(t[0], t[1], t[2], options); },
      [&](const Tensors& t) { return flash_attention_cpu_reference(t[0], t[1], t[2], options); },
      qkv, compared);
}

/// As expect_attention, with gradients by the bias and the sinks that `options` has.
void expect_all_gradients(const Shape& s, const FlashAttentionCpuOptions& options,
                          const Compared& compared = {}) {
  auto inputs = random_qkv(s);
  inputs.push_back(options.bias);
  inputs.push_back(options.sinks);
  const auto with_inputs = [&](const Tensors& t) {
    auto given = options;
    given.bias = t[3];
    given.sinks = t[4];
    return given;
  };
  ASSERT_EQ(flash_attention_cpu_unsupported(inputs[0], inputs[1], inputs[2], options), "");
  expect_like_reference(
      [&](const Tensors& t) { return flash_attention_cpu(t[0], t[1], t[2], with_inputs(t)); },
      [&](const Tensors& t) {
        return flash_attention_cpu_reference(t[0], t[1], t[2], with_inputs(t));
      },
      inputs, compared);
}

class FlashAttentionCpuTest : public testing::TestWithParam<Shape> {
 protected:
  void SetUp() override { at::manual_seed(5); }
};

INSTANTIATE_TEST_SUITE_P(
    Shapes, FlashAttentionCpuTest,
    testing::Values(Shape{2, 3, 3, 17, 17, 8, 8}, Shape{1, 2, 2, 70, 70, 64, 64},
                    Shape{1, 1, 1, 300, 300, 16, 16}, Shape{2, 4, 2, 33, 50, 20, 36},
                    Shape{1, 6, 1, 7, 90, 32, 32}, Shape{2, 2, 2, 40, 25, 5, 3},
                    Shape{1, 2, 1, 49, 513, 40, 40}, Shape{2, 3, 3, 1, 37, 24, 24},
                    Shape{1, 4, 2, 1, 700, 64, 48}, Shape{1, 1, 1, 3, 1000, 16, 17},
                    Shape{1, 1, 1, 20, 3, 256, 200}, Shape{1, 2, 1, 1, 1, 1, 1}));

TEST_P(FlashAttentionCpuTest, Plain) { expect_attention(GetParam(), {.scale = 0.3}); }

TEST_P(FlashAttentionCpuTest, Causal) {
  expect_attention(GetParam(), {.scale = 0.3, .causal = true});
}

TEST_P(FlashAttentionCpuTest, MaskWithRowsThatSeeNothing) {
  const auto& s = GetParam();
  auto mask = at::rand({s.batch, 1, s.queries, s.keys}) < 0.5;
  mask.select(2, s.queries / 2).fill_(false);
  expect_attention(s, {.scale = 0.3, .mask = mask});
  expect_attention(s, {.scale = 0.3, .mask = mask, .causal = true});
}

TEST_P(FlashAttentionCpuTest, EverythingTogether) {
  const auto& s = GetParam();
  FlashAttentionCpuOptions options;
  options.scale = 0.4;
  options.bias = at::randn({s.heads, s.queries, s.keys});
  options.alibi_slopes = at::rand({s.heads}) * 0.1;
  options.softclamp = 3.0;
  options.mask = at::rand({s.batch, 1, 1, s.keys}) < 0.8;
  options.causal = true;
  expect_attention(s, options, {5e-5});
}

TEST_P(FlashAttentionCpuTest, Sinks) {
  const auto& s = GetParam();
  auto mask = at::rand({s.batch, 1, s.queries, s.keys}) < 0.5;
  mask.select(2, s.queries / 2).fill_(false);
  FlashAttentionCpuOptions options{.scale = 0.3, .sinks = at::randn({s.heads})};
  expect_all_gradients(s, options);
  options.mask = mask;
  options.causal = true;
  expect_all_gradients(s, options);
}

TEST_P(FlashAttentionCpuTest, Sigmoid) {
  const auto& s = GetParam();
  expect_attention(s, {.scale = 0.3, .sigmoid = true}, {5e-5});
  const auto mask = at::rand({s.batch, 1, 1, s.keys}) < 0.5;
  expect_attention(
      s, {.scale = 0.3, .softclamp = 2.0, .mask = mask, .causal = true, .sigmoid = true}, {5e-5});
}

TEST_P(FlashAttentionCpuTest, CogSigned) {
  const auto& s = GetParam();
  const auto mask = at::rand({s.batch, 1, 1, s.keys}) < 0.5;
  for (const bool sigmoid : {false, true}) {
    expect_attention(s, {.scale = 0.3, .cog_signed = true, .sigmoid = sigmoid}, {5e-5});
    expect_attention(s,
                     {.scale = 0.3,
                      .softclamp = 2.0,
                      .cog_signed = true,
                      .mask = mask,
                      .causal = true,
                      .sigmoid = sigmoid},
                     {5e-5});
  }
}

TEST_P(FlashAttentionCpuTest, Hard) {
  const auto& s = GetParam();
  auto mask = at::rand({s.batch, 1, s.queries, s.keys}) < 0.5;
  mask.select(2, s.queries / 2).fill_(false);
  expect_attention(s, {.scale = 0.3, .hard = true});
  expect_attention(s, {.scale = 0.3, .mask = mask, .causal = true, .hard = true});
  expect_all_gradients(s,
                       {.scale = 0.3,
                        .bias = at::randn({s.heads, s.queries, s.keys}),
                        .softclamp = 3.0,
                        .cog_signed = true,
                        .mask = mask,
                        .sinks = at::randn({s.heads}),
                        .hard = true,
                        .dropout = 0.3},
                       {5e-5});
}

TEST_P(FlashAttentionCpuTest, Gumbel) {
  const auto& s = GetParam();
  const auto mask = at::rand({s.batch, 1, 1, s.keys}) < 0.5;
  expect_attention(s, {.scale = 0.3, .gumbel = true, .seed = 5}, {5e-5});
  expect_attention(
      s,
      {.scale = 0.3, .mask = mask, .causal = true, .gumbel = true, .temperature = 0.7, .seed = 6},
      {5e-5});
  expect_attention(
      s,
      {.scale = 0.3, .gumbel = true, .temperature = 1.5, .hard = true, .dropout = 0.2, .seed = 7},
      {5e-5});
}

TEST(FlashAttentionCpuTest, GumbelNoiseChoosesAsTheSoftmaxWeighs) {
  constexpr int64_t kQueries = 40000;
  const auto scores = at::tensor({0.0, 1.0, -2.0, 3.0, 2.5}, at::kFloat);
  const auto q = at::ones({1, 1, kQueries, 1}), k = scores.view({1, 1, 5, 1});
  const auto v = at::eye(5).view({1, 1, 5, 5});
  const auto chosen = flash_attention_cpu(q, k, v, {.gumbel = true, .hard = true, .seed = 21});
  const auto share = chosen.mean(at::IntArrayRef{0, 1, 2}), expected = scores.softmax(0);
  const auto deviation = (expected * (1 - expected) / static_cast<double>(kQueries)).sqrt();
  EXPECT_LT(((share - expected) / deviation).abs().max().item<double>(), 4.5);
}

TEST_P(FlashAttentionCpuTest, Dropout) {
  const auto& s = GetParam();
  expect_attention(s, {.scale = 0.3, .dropout = 0.3, .seed = 7});
  expect_all_gradients(s,
                       {.scale = 0.3,
                        .bias = at::randn({s.heads, s.queries, s.keys}),
                        .softclamp = 3.0,
                        .cog_signed = true,
                        .causal = true,
                        .sinks = at::randn({s.heads}),
                        .dropout = 0.6,
                        .seed = -3},
                       {5e-5});
  expect_attention(s, {.sigmoid = true, .dropout = 0.5}, {5e-5});
  expect_attention(s, {.dropout = 1.0});
}

TEST_P(FlashAttentionCpuTest, GradientsOfABias) {
  const auto& s = GetParam();
  const auto mask = at::rand({s.batch, 1, 1, s.keys}) < 0.5;
  for (const auto& sizes : {std::vector<int64_t>{s.heads, s.queries, s.keys},
                            {s.batch, s.heads, s.queries, s.keys},
                            {s.batch, s.heads, 1, s.keys},
                            {s.heads, s.queries, 1},
                            {s.heads, 1, 1}}) {
    expect_all_gradients(s, {.scale = 0.3, .bias = at::randn(sizes)});
    expect_all_gradients(
        s, {.scale = 0.3, .bias = at::randn(sizes), .softclamp = 2.0, .mask = mask, .causal = true},
        {5e-5});
  }
  if (s.kv_heads > 1) return;
  expect_all_gradients(s, {.scale = 0.3, .bias = at::randn({s.queries, s.keys})});
  expect_all_gradients(s, {.scale = 0.3, .bias = at::randn({s.keys}), .causal = true});
}

TEST(FlashAttentionCpuTest, OfABiasWhereNothingElseWantsAGradient) {
  // More threads than kv heads: the batch is cut into slices.
  const auto threads = at::get_num_threads();
  at::set_num_threads(3);
  const auto bias = at::randn({2, 30, 30}).requires_grad_(), sinks = at::randn({2});
  const auto qkv = random_qkv({3, 2, 1, 30, 30, 8, 8});
  const FlashAttentionCpuOptions options{.bias = bias, .sinks = sinks};
  const auto grad = [&](const at::Tensor& out) {
    return torch::autograd::grad({out.square().sum()}, {bias})[0];
  };
  expect_close(grad(flash_attention_cpu(qkv[0], qkv[1], qkv[2], options)),
               grad(flash_attention_cpu_reference(qkv[0], qkv[1], qkv[2], options)));
  at::set_num_threads(threads);
}

TEST(FlashAttentionCpuTest, RowsOfVeryLowScoresHaveTheirGradients) {
  auto bias = at::zeros({6, 20});
  bias.select(0, 2).fill_(-1e9);
  bias.select(0, 4).fill_(-3e38);
  expect_attention({1, 2, 2, 6, 20, 8, 8}, {.scale = 0.0, .bias = bias});
}

TEST(FlashAttentionCpuTest, HardChoosesNoMaskedKeyBesideAnInfiniteScore) {
  auto bias = at::zeros({1, 20});
  bias[0][5] = INFINITY;
  const auto mask = at::arange(20) > 0;
  const auto q = at::ones({1, 1, 1, 1}), v = at::arange(20, at::kFloat).view({1, 1, 20, 1});
  const auto out =
      flash_attention_cpu(q, at::ones({1, 1, 20, 1}), v,
                          {.bias = bias, .cog_signed = true, .mask = mask, .hard = true});
  EXPECT_EQ(out.item<float>(), 5.0F);
}

/// What dropout leaves of equal weights: 0 or 1/(1-p) each, [b, h, i, j].
at::Tensor kept_weights(at::IntArrayRef sizes, double dropout, int64_t seed) {
  const auto q = at::zeros({sizes[0], sizes[1], sizes[2], 1});
  const auto k = at::zeros({sizes[0], sizes[1], sizes[3], 1});
  const auto v = at::eye(sizes[3]).expand({sizes[0], sizes[1], sizes[3], sizes[3]});
  return flash_attention_cpu(q, k, v, {.dropout = dropout, .seed = seed}) *
         static_cast<double>(sizes[3]);
}

TEST(FlashAttentionCpuTest, DropoutIsFairAndIndependent) {
  const std::vector<int64_t> sizes = {4, 4, 64, 200};
  const double count = 4 * 4 * 64 * 200;
  for (const double p : {0.1, 0.5, 0.9}) {
    const auto weights = kept_weights(sizes, p, 11);
    const auto kept = weights > 0;
    expect_close(weights.masked_select(kept), at::full({kept.sum().item<int64_t>()}, 1 / (1 - p)));
    const auto deviation = (kept.to(at::kDouble) - (1 - p)) / std::sqrt(p * (1 - p));
    const auto expect_uncorrelated = [&](const at::Tensor& a, const at::Tensor& b) {
      const double n = static_cast<double>(a.numel());
      EXPECT_LT(std::abs((a * b).sum().item<double>()) / std::sqrt(n), 4.5) << p;
    };
    EXPECT_LT(std::abs(deviation.sum().item<double>()) / std::sqrt(count), 4.5) << p;
    for (int64_t dimension = 0; dimension < 4; ++dimension) {
      const auto pairs = sizes[dimension] - 1;
      expect_uncorrelated(deviation.narrow(dimension, 0, pairs),
                          deviation.narrow(dimension, 1, pairs));
    }
    const auto other = (kept_weights(sizes, p, 12) > 0).to(at::kDouble) - (1 - p);
    expect_uncorrelated(deviation, other / std::sqrt(p * (1 - p)));
    // Nothing repeats from row to row: as many keys are kept together as chance has it.
    const auto rows = deviation.flatten(0, 2);
    const auto products = at::matmul(rows, rows.t()).triu(1).abs().max().item<double>();
    EXPECT_LT(products / std::sqrt(200.0), 7.5) << p;
  }
}

TEST(FlashAttentionCpuTest, BiasAndMaskOfEveryBroadcastShape) {
  const Shape s{2, 3, 3, 9, 20, 8, 8};
  for (const std::vector<int64_t>& sizes :
       {std::vector<int64_t>{20}, std::vector<int64_t>{9, 20}, std::vector<int64_t>{9, 1},
        std::vector<int64_t>{3, 9, 20}, std::vector<int64_t>{2, 1, 1, 20},
        std::vector<int64_t>{1, 3, 9, 1}, std::vector<int64_t>{2, 3, 9, 20}}) {
    expect_attention(s, {.bias = at::randn(sizes), .mask = at::rand(sizes) < 0.7});
  }
  const auto transposed = at::randn({20, 9}).t();
  expect_attention(s, {.bias = transposed, .mask = transposed > 0});
}

TEST(FlashAttentionCpuTest, StridedInputsAndTheOrderOfResults) {
  const auto merged = [](const Tensors& t) {
    return Tensors{t[0].transpose(1, 2), t[1].transpose(1, 2), t[2].transpose(2, 3)};
  };
  const Tensors inputs = {at::randn({2, 11, 4, 8}), at::randn({2, 13, 2, 8}),
                          at::randn({2, 2, 12, 13})};
  const FlashAttentionCpuOptions options{.causal = true};
  expect_like_reference(
      [&](const Tensors& t) {
        const auto m = merged(t);
        return flash_attention_cpu(m[0], m[1], m[2], options);
      },
      [&](const Tensors& t) {
        const auto m = merged(t);
        return flash_attention_cpu_reference(m[0], m[1], m[2], options);
      },
      inputs);
  auto leaf = inputs[0].transpose(1, 2).requires_grad_();
  const auto out =
      flash_attention_cpu(leaf, inputs[1].transpose(1, 2), inputs[2].transpose(2, 3), options);
  EXPECT_TRUE(out.transpose(1, 2).is_contiguous());
  const auto gradient = torch::autograd::grad({out.sum()}, {leaf})[0];
  EXPECT_TRUE(gradient.transpose(1, 2).is_contiguous());
}

TEST(FlashAttentionCpuTest, APartlyFilledCache) {
  const auto cache_k = at::full({2, 2, 64, 8}, NAN), cache_v = at::full({2, 2, 64, 8}, NAN);
  const auto k = cache_k.narrow(2, 0, 21), v = cache_v.narrow(2, 0, 21);
  k.normal_();
  v.normal_();
  const auto q = at::randn({2, 4, 1, 8});
  const FlashAttentionCpuOptions options{.causal = true};
  expect_close(flash_attention_cpu(q, k, v, options),
               flash_attention_cpu_reference(q, k, v, options));
}

TEST(FlashAttentionCpuTest, NothingToAttendTo) {
  const auto q = at::randn({2, 2, 3, 8}).requires_grad_();
  const auto k = at::randn({2, 2, 0, 8}).requires_grad_(), v = at::randn({2, 2, 0, 8});
  const auto out = flash_attention_cpu(q, k, v);
  EXPECT_TRUE(out.eq(0).all().item<bool>());
  const auto gradients = torch::autograd::grad({out.sum()}, {q, k});
  EXPECT_TRUE(gradients[0].eq(0).all().item<bool>());
  EXPECT_EQ(gradients[1].sizes(), k.sizes());
  EXPECT_EQ(flash_attention_cpu(at::randn({2, 2, 0, 8}), v, v).numel(), 0);
}

TEST(FlashAttentionCpuTest, NotANumberIsNotHidden) {
  for (const int64_t queries : {1, 30}) {
    auto k = at::randn({1, 1, 30, 8});
    k[0][0][5][0] = NAN;
    const auto q = at::randn({1, 1, queries, 8}), v = at::randn({1, 1, 30, 8});
    EXPECT_TRUE(flash_attention_cpu(q, k, v).isnan().all().item<bool>());
    EXPECT_TRUE(flash_attention_cpu(q, k, v, {.hard = true}).isnan().all().item<bool>());
    k.fill_(NAN);
    EXPECT_TRUE(flash_attention_cpu(q, k, v).isnan().all().item<bool>());
  }
}

TEST(FlashAttentionCpuTest, GradientsOfGradients) {
  expect_attention({1, 2, 1, 20, 23, 8, 8}, {.scale = 0.3, .causal = true}, {1e-4, true});
  expect_all_gradients({2, 2, 1, 9, 13, 8, 8},
                       {.scale = 0.3,
                        .bias = at::randn({2, 9, 13}),
                        .cog_signed = true,
                        .sinks = at::randn({2}),
                        .dropout = 0.3},
                       {1e-4, true});
}

TEST(FlashAttentionCpuTest, SaysWhatItCannotRun) {
  const auto q = at::randn({1, 4, 5, 8}), k = at::randn({1, 2, 5, 8});
  EXPECT_EQ(flash_attention_cpu_unsupported(q, k, k), "");
  const auto why = [&](const FlashAttentionCpuOptions& options) {
    return flash_attention_cpu_unsupported(q, k, k, options);
  };
  EXPECT_NE(flash_attention_cpu_unsupported(q.to(at::kDouble), k, k), "");
  EXPECT_NE(flash_attention_cpu_unsupported(q[0], k, k), "");
  EXPECT_NE(flash_attention_cpu_unsupported(q, at::randn({1, 3, 5, 8}), at::randn({1, 3, 5, 8})),
            "");
  EXPECT_NE(flash_attention_cpu_unsupported(q, k, at::randn({1, 2, 6, 8})), "");
  EXPECT_NE(flash_attention_cpu_unsupported(q, at::randn({1, 2, 5, 9}), k), "");
  EXPECT_NE(flash_attention_cpu_unsupported(q, at::randn({2, 2, 5, 8}), k), "");
  EXPECT_NE(flash_attention_cpu_unsupported(at::randn({1, 4, 5, 300}), k, k), "");
  EXPECT_NE(why({.bias = at::randn({5, 5}).requires_grad_()}), "");
  EXPECT_EQ(why({.bias = at::randn({4, 5, 5}).requires_grad_()}), "");
  EXPECT_NE(why({.alibi_slopes = at::randn({4}).requires_grad_()}), "");
  EXPECT_NE(why({.sinks = at::randn({3})}), "");
  EXPECT_NE(why({.sinks = at::randn({1})}), "");
  EXPECT_NE(why({.sinks = at::randn({})}), "");
  EXPECT_NE(why({.alibi_slopes = at::randn({1})}), "");
  EXPECT_NE(why({.sinks = at::randn({4}), .sigmoid = true}), "");
  EXPECT_NE(why({.dropout = 1.5}), "");
  EXPECT_NE(why({.gumbel = true, .temperature = 0.0}), "");
  EXPECT_NE(why({.cog_signed = true, .gumbel = true}), "");
  EXPECT_NE(why({.bias = at::randn({4, 5})}), "");
  EXPECT_NE(why({.alibi_slopes = at::randn({3})}), "");
  EXPECT_NE(why({.mask = at::ones({5, 5})}), "");
  EXPECT_THROW(flash_attention_cpu(q, k, k, {.softclamp = -1.0}), InputError);
}

}  // namespace
}  // namespace x_transformers
