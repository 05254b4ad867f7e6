// Attention against the sum over keys, written out, and properties that hold for every option.
#include "x_transformers/nn/attention.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>

#include "x_transformers/core/error.h"

namespace x_transformers::attention_test {
namespace {

constexpr int64_t kDim = 8, kHeads = 4, kDimHead = 2, kTokens = 5;

AttentionOptions options() {
  AttentionOptions options;
  options.dim = kDim;
  options.heads = kHeads;
  options.dim_head = kDimHead;
  return options;
}

Attention make(const AttentionOptions& options) {
  at::manual_seed(3);
  Attention attention(options);
  attention->eval();
  return attention;
}

at::Tensor some(at::IntArrayRef shape, uint64_t seed = 5) {
  at::manual_seed(seed);
  return at::randn(shape);
}

at::Tensor run(Attention& attention, const at::Tensor& x, const at::Tensor& mask = {}) {
  const torch::NoGradGuard no_grad;
  AttentionInputs inputs;
  inputs.x = x;
  inputs.mask = mask;
  return attention->forward(inputs).out;
}

void expect_close(const at::Tensor& got, const at::Tensor& expected) {
  ASSERT_EQ(got.sizes(), expected.sizes());
  EXPECT_TRUE(at::allclose(got, expected, 1e-5, 1e-5)) << (got - expected).abs().max();
}

/// Each query's mean of the values, weighted by exp(q k / sqrt(d)), one number after the other.
at::Tensor by_hand(Attention& attention, const at::Tensor& x, int64_t kv_heads, bool causal) {
  const torch::NoGradGuard no_grad;
  const auto weights = attention->named_parameters();
  const auto heads = [&](const char* name, int64_t count) {
    return at::linear(x, weights[name]).unflatten(-1, {count, kDimHead});
  };
  const auto q = heads("to_q.weight", kHeads), k = heads("to_k.weight", kv_heads),
             v = heads("to_v.weight", kv_heads);
  auto out = at::zeros({x.size(0), kTokens, kHeads, kDimHead});
  for (int64_t b = 0; b < x.size(0); ++b) {
    for (int64_t h = 0; h < kHeads; ++h) {
      for (int64_t i = 0; i < kTokens; ++i) {
        double total = 0;
        for (int64_t j = 0; j < (causal ? i + 1 : kTokens); ++j) {
          const auto score =
              (q[b][i][h] * k[b][j][h % kv_heads]).sum().item<double>() / std::sqrt(kDimHead);
          total += std::exp(score);
          out[b][i][h] += v[b][j][h % kv_heads] * std::exp(score);
        }
        out[b][i][h] /= total;
      }
    }
  }
  return at::linear(out.flatten(-2), weights["to_out.weight"]);
}

TEST(Attention, IsTheWeightedMeanOfTheValues) {
  for (const bool causal : {false, true}) {
    for (const int64_t kv_heads : {kHeads, int64_t{2}, int64_t{1}}) {
      auto given = options();
      given.causal = causal;
      given.kv_heads = kv_heads;
      auto attention = make(given);
      const auto x = some({2, kTokens, kDim});
      expect_close(run(attention, x), by_hand(attention, x, kv_heads, causal));
    }
  }
}

TEST(Attention, WithoutPositionsTheOrderOfTheKeysDoesNotMatter) {
  auto attention = make(options());
  const auto x = some({1, kTokens, kDim});
  const auto order = at::tensor({3, 0, 4, 1, 2}, at::kLong);
  expect_close(run(attention, x.index_select(1, order)), run(attention, x).index_select(1, order));
}

TEST(Attention, ACausalQueryDoesNotSeeWhatComesAfter) {
  auto given = options();
  given.causal = true;
  given.value_rmsnorm = given.gate_values = true;
  auto attention = make(given);
  const auto x = some({1, kTokens, kDim});
  auto changed = x.clone();
  changed.select(1, 3).add_(1);
  const auto before = run(attention, x), after = run(attention, changed);
  expect_close(after.narrow(1, 0, 3), before.narrow(1, 0, 3));
  EXPECT_FALSE(at::allclose(after.select(1, 3), before.select(1, 3)));
}

TEST(Attention, AMaskedKeyDoesNotCount) {
  auto attention = make(options());
  const auto x = some({1, kTokens, kDim});
  auto mask = at::ones({1, kTokens}, at::kBool);
  mask[0][4] = false;
  const auto shorter = run(attention, x.narrow(1, 0, 4));
  expect_close(run(attention, x, mask).narrow(1, 0, 4), shorter);
}

TEST(Attention, WhereNoKeyIsLeftTheOutputIsZero) {
  auto attention = make(options());
  expect_close(run(attention, some({1, kTokens, kDim}), at::zeros({1, kTokens}, at::kBool)),
               at::zeros({1, kTokens, kDim}));
}

TEST(Attention, AWindowIsAFullAttentionWhereItIsLongEnough) {
  auto given = options();
  given.causal = true;
  auto whole = make(given);
  given.max_attend_past = kTokens;
  auto wide = make(given);
  given.max_attend_past = 1;
  auto narrow = make(given);
  const auto x = some({1, kTokens, kDim});
  expect_close(run(wide, x), run(whole, x));
  // The last query sees itself and one before.
  expect_close(run(narrow, x).narrow(1, 4, 1), run(whole, x.narrow(1, 3, 2)).narrow(1, 1, 1));
}

TEST(Attention, CrossAttentionReadsTheContext) {
  auto given = options();
  given.dim_context = 3;
  auto attention = make(given);
  const torch::NoGradGuard no_grad;
  AttentionInputs inputs;
  inputs.x = some({1, kTokens, kDim});
  inputs.context = some({1, 1, 3});
  // One key: every query gets its value.
  const auto weights = attention->named_parameters();
  const auto value =
      at::linear(at::linear(inputs.context, weights["to_v.weight"]), weights["to_out.weight"]);
  expect_close(attention->forward(inputs).out, value.expand({1, kTokens, kDim}));
}

/// Positions from outside, which an attention called by itself is given with a position bias.
struct Placed {
  Placed() {
    auto given = options();
    given.causal = true;
    attention = make(given);
    AlibiPositionalBiasOptions bias;
    bias.heads = kHeads;
    rel_pos = std::make_unique<AlibiPositionalBias>(bias);
  }
  at::Tensor operator()(const at::Tensor& x, const at::Tensor& pos,
                        AttentionState* cache = nullptr) {
    const torch::NoGradGuard no_grad;
    AttentionInputs inputs;
    inputs.x = x;
    inputs.pos = pos;
    inputs.rel_pos = rel_pos.get();
    inputs.cache = cache;
    return attention->forward(inputs).out;
  }

  Attention attention{nullptr};
  std::unique_ptr<AlibiPositionalBias> rel_pos;
};

TEST(Attention, GatesOfQueriesNeedAContextOfAsManyKeys) {
  auto given = options();
  given.data_dependent_alibi = true;
  auto attention = make(given);
  const torch::NoGradGuard no_grad;
  AttentionInputs inputs;
  inputs.x = some({1, kTokens, kDim});
  inputs.context = some({1, kTokens, kDim});
  EXPECT_EQ(attention->forward(inputs).out.sizes(), inputs.x.sizes());
  for (const int64_t keys : {kTokens - 1, kTokens + 2}) {
    inputs.context = some({1, keys, kDim});
    EXPECT_THROW(attention->forward(inputs), InputError) << keys;
  }
}

TEST(Attention, PositionsFromOutsideAreThoseOfCachedKeysToo) {
  Placed placed;
  const auto x = some({2, 8, kDim});
  const auto pos = at::tensor({0, 3, 4, 9, 11, 12, 20, 21});
  const auto whole = placed(x, pos);
  const auto state = placed.attention->make_state({});
  auto& cache = dynamic_cast<AttentionState&>(*state);
  expect_close(placed(x.narrow(1, 0, 5), pos.narrow(0, 0, 5), &cache), whole.narrow(1, 0, 5));
  expect_close(placed(x.narrow(1, 5, 2), pos.narrow(0, 0, 7), &cache), whole.narrow(1, 5, 2));
  expect_close(placed(x.narrow(1, 7, 1), pos, &cache), whole.narrow(1, 7, 1));
}

TEST(Attention, PositionsOfNewTokensAloneDoNotPlaceCachedOnes) {
  Placed placed;
  const auto x = some({2, 5, kDim});
  const auto state = placed.attention->make_state({});
  auto& cache = dynamic_cast<AttentionState&>(*state);
  placed(x.narrow(1, 0, 3), at::arange(3), &cache);
  EXPECT_THROW(placed(x.narrow(1, 3, 2), at::arange(3, 5), &cache), InputError);
}

}  // namespace
}  // namespace x_transformers::attention_test
