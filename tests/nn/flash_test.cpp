// GAU and FLASH: who sees whom, masks, states token by token and in chunks, and refusals.
#include "x_transformers/nn/flash.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "x_transformers/core/error.h"
#include "x_transformers/nn/gau.h"

namespace x_transformers::flash_test {
namespace {

constexpr int64_t kDim = 12, kBatch = 2, kLength = 17;

GAUOptions gau_options() {
  GAUOptions o;
  o.dim = kDim;
  o.query_key_dim = 6;
  return o;
}

GAUOptions decodable_gau() {
  auto o = gau_options();
  o.causal = true;
  o.normalise = "position";
  return o;
}

FLASHOptions flash_options(bool causal = true) {
  FLASHOptions o;
  o.dim = kDim;
  o.query_key_dim = 6;
  o.group_size = 5;
  o.causal = causal;
  o.shift_tokens = true;
  o.rotary_pos_emb = ModuleSpec{"FLASHRotaryEmbedding", R"({"dim": 4})"};
  return o;
}

/// Weights that let tokens see each other by more than the bias.
template <class Layer, class O>
std::shared_ptr<Layer> make(const O& options) {
  at::manual_seed(7);
  auto layer = std::make_shared<Layer>(options);
  at::NoGradGuard no_grad;
  for (const auto& parameter : layer->named_parameters())
    if (parameter.key().ends_with("gamma")) parameter.value().normal_();
  layer->eval();
  return layer;
}

at::Tensor tokens(int64_t length = kLength) {
  at::manual_seed(8);
  return at::randn({kBatch, length, kDim});
}

at::Tensor run(Block& layer, const at::Tensor& x, const at::Tensor& mask = {},
               BlockState* state = nullptr) {
  const at::NoGradGuard no_grad;
  BranchInputs inputs;
  inputs.x = x;
  inputs.mask = mask;
  inputs.state = state;
  return layer.run(inputs).out;
}

/// The same, in calls of `counts` tokens.
at::Tensor run_in_chunks(Block& layer, const at::Tensor& x, const std::vector<int64_t>& counts,
                         const at::Tensor& mask = {}) {
  const auto state = layer.make_state({});
  std::vector<at::Tensor> parts;
  int64_t begin = 0;
  for (const auto count : counts) {
    const auto own = mask.defined() ? mask.narrow(1, begin, count) : mask;
    parts.push_back(run(layer, x.narrow(1, begin, count), own, state.get()));
    begin += count;
  }
  return at::cat(parts, 1);
}

void expect_close(const at::Tensor& got, const at::Tensor& expected) {
  ASSERT_EQ(got.sizes(), expected.sizes());
  EXPECT_TRUE(at::allclose(got, expected, 1e-4, 2e-5)) << (got - expected).abs().max();
}

void expect_no_look_ahead(Block& layer) {
  const auto x = tokens();
  auto other = x.clone();
  other.select(1, 11).neg_();  // and not a shift, which LayerNorm takes away
  const auto before = run(layer, x), after = run(layer, other);
  EXPECT_TRUE(at::equal(before.narrow(1, 0, 11), after.narrow(1, 0, 11)));
  EXPECT_FALSE(at::allclose(before.narrow(1, 12, 5), after.narrow(1, 12, 5)));
}

std::string refusal(const std::function<void()>& call) {
  try {
    call();
  } catch (const InputError& error) {
    return error.what();
  }
  return "nothing was refused";
}

TEST(FLASHT5RelativePositionBias, ByDistanceIsTheSame) {
  for (const bool causal : {false, true}) {
    FLASHT5RelativePositionBiasOptions o;
    o.scale = 2;
    o.causal = causal;
    FLASHT5RelativePositionBias bias(o);
    const at::NoGradGuard no_grad;
    const auto matrix = bias.forward(0, 7, 7), distances = bias.by_distance(7);
    for (int64_t i = 0; i < 7; ++i)
      EXPECT_TRUE(at::equal(matrix[i], distances.narrow(0, 6 - i, 7))) << i;
  }
}

TEST(FLASH, SeesNoLaterToken) {
  for (const bool laplace : {false, true}) {
    auto o = flash_options();
    o.laplace_attn_fn = laplace;
    expect_no_look_ahead(*make<FLASH>(o));
  }
  expect_no_look_ahead(*make<GAU>(decodable_gau()));
}

TEST(FLASH, GoesOnFromItsStateTokenByTokenAndInChunks) {
  const std::vector<std::vector<int64_t>> chunks = {
      std::vector<int64_t>(kLength, 1), {17}, {3, 14}, {5, 5, 7}, {1, 9, 6, 1}, {12, 1, 1, 1, 2}};
  for (const bool shift : {true, false}) {
    for (const bool rotate : {true, false}) {
      auto o = flash_options();
      o.shift_tokens = shift;
      if (!rotate) o.rotary_pos_emb.reset();
      const auto layer = make<FLASH>(o);
      const auto x = tokens();
      for (const auto& counts : chunks)
        expect_close(run_in_chunks(*layer, x, counts), run(*layer, x));
    }
  }
}

TEST(FLASH, TheStateDoesNotGrow) {
  const auto layer = make<FLASH>(flash_options());
  const auto state = layer->make_state({});
  const auto x = tokens(40);
  auto& flash = dynamic_cast<FLASHState&>(*state);
  for (int64_t i = 0; i < 40; ++i) {
    run(*layer, x.narrow(1, i, 1), {}, state.get());
    EXPECT_LT(flash.in_group(), 5);
    EXPECT_EQ(flash.length, i + 1);
  }
  EXPECT_EQ(flash.before.numel(), kBatch * 6 * 2 * kDim);
}

TEST(FLASH, AReorderedStateGoesOnFromOtherRows) {
  const auto layer = make<FLASH>(flash_options());
  const auto x = tokens(9);
  const auto rows = at::tensor({1, 0, 1});
  const auto state = layer->make_state({});
  run(*layer, x.narrow(1, 0, 8), {}, state.get());
  state->reorder(rows);
  const auto last = x.narrow(1, 8, 1).index_select(0, rows);
  const auto expected = run(*layer, x).narrow(1, 8, 1).index_select(0, rows);
  expect_close(run(*layer, last, {}, state.get()), expected);
}

TEST(FLASH, GradientsFlowThroughTheState) {
  const auto layer = make<FLASH>(flash_options());
  const auto x = tokens().requires_grad_();
  const auto whole = [&] {
    BranchInputs inputs;
    inputs.x = x;
    return layer->run(inputs).out;
  };
  const auto parts = [&] {
    const auto state = layer->make_state({});
    std::vector<at::Tensor> outs;
    for (const auto& part : x.split(4, 1)) {
      BranchInputs inputs;
      inputs.x = part;
      inputs.state = state.get();
      outs.push_back(layer->run(inputs).out);
    }
    return at::cat(outs, 1);
  };
  const auto gradient = [&](const at::Tensor& out) {
    x.mutable_grad() = at::Tensor();
    out.pow(2).sum().backward();
    return x.grad().clone();
  };
  expect_close(gradient(parts()), gradient(whole()));
}

TEST(FLASH, AMaskActsLikeAShorterSequence) {
  const auto x = tokens();
  const auto mask = (at::arange(kLength) < 11).unsqueeze(0).expand({kBatch, -1});
  for (const bool causal : {false, true}) {
    for (const bool reduce : {false, true}) {
      auto o = flash_options(causal);
      o.reduce_group_non_causal_attn = reduce;
      const auto layer = make<FLASH>(o);
      expect_close(run(*layer, x, mask).narrow(1, 0, 11), run(*layer, x.narrow(1, 0, 11)));
    }
  }
  for (const auto& o : {gau_options(), decodable_gau()}) {
    const auto layer = make<GAU>(o);
    expect_close(run(*layer, x, mask).narrow(1, 0, 11), run(*layer, x.narrow(1, 0, 11)));
  }
}

TEST(FLASH, WithPythonsNumbersPaddingChangesResults) {
  const auto x = tokens();
  const auto mask = (at::arange(kLength) < 11).unsqueeze(0).expand({kBatch, -1});
  auto o = flash_options(false);
  o.compat.python_quirks = true;
  const auto layer = make<FLASH>(o);
  EXPECT_FALSE(at::allclose(run(*layer, x, mask).narrow(1, 0, 11), run(*layer, x.narrow(1, 0, 11)),
                            1e-3, 1e-4));
}

TEST(FLASH, NothingOfAMaskedTokenReachesOthers) {
  const auto x = tokens();
  auto mask = at::ones({kBatch, kLength}, at::kBool);
  mask.select(1, 6).fill_(false);
  auto other = x.clone();
  other.select(1, 6) += 3;
  for (const bool causal : {false, true}) {
    const auto layer = make<FLASH>(flash_options(causal));
    auto difference = (run(*layer, x, mask) - run(*layer, other, mask)).abs();
    difference.select(1, 6).zero_();
    EXPECT_EQ(difference.max().item<float>(), 0);
  }
}

TEST(GAU, GoesOnFromItsStateWhereScoresAreDividedByPosition) {
  const auto layer = make<GAU>(decodable_gau());
  const auto x = tokens();
  const auto mask = at::rand({kBatch, kLength}) < 0.7;
  for (const auto& counts : {std::vector<int64_t>(kLength, 1), {17}, {3, 14}, {1, 9, 6, 1}}) {
    expect_close(run_in_chunks(*layer, x, counts), run(*layer, x));
    expect_close(run_in_chunks(*layer, x, counts, mask), run(*layer, x, mask));
  }
}

TEST(GAU, ItsDefaultCannotBeCached) {
  auto o = gau_options();
  o.causal = true;
  const auto layer = make<GAU>(o);
  const auto reason = Notice{{}, layer->cache_unsupported()}.line();
  EXPECT_NE(reason.find("normalise = position does not"), std::string::npos);
  const auto state = layer->make_state({});
  const auto said = refusal([&] { run(*layer, tokens(), {}, state.get()); });
  EXPECT_NE(said.find("normalise"), std::string::npos) << said;
  EXPECT_EQ(make<FLASH>(flash_options())->cache_unsupported(), "");
  EXPECT_NE(make<FLASH>(flash_options(false))->cache_unsupported(), "");
}

/// Queries by themselves, and a mask like a shorter context.
void expect_reads_context(Block& layer) {
  const at::NoGradGuard no_grad;
  const auto x = tokens(4), context = tokens(9);
  BranchInputs inputs;
  inputs.x = x;
  inputs.context = context;
  const auto all = layer.run(inputs).out;
  EXPECT_EQ(all.sizes(), x.sizes());
  inputs.x = x.narrow(1, 2, 1);
  expect_close(layer.run(inputs).out, all.narrow(1, 2, 1));
  inputs.x = x;
  inputs.context = context.narrow(1, 0, 5);
  const auto shorter = layer.run(inputs).out;
  inputs.context = context;
  inputs.context_mask = (at::arange(9) < 5).unsqueeze(0).expand({kBatch, -1});
  expect_close(layer.run(inputs).out, shorter);
  EXPECT_FALSE(at::allclose(shorter, all));
}

TEST(GAU, ReadsAContext) { expect_reads_context(*make<GAU>(gau_options())); }

TEST(FLASH, ReadsAContextByLinearAttention) {
  auto o = flash_options(false);
  const auto shifts = make<FLASH>(o);
  BranchInputs inputs;
  inputs.x = inputs.context = tokens(4);
  EXPECT_NE(refusal([&] { shifts->run(inputs); }).find("shift_tokens"), std::string::npos);
  o.shift_tokens = false;
  expect_reads_context(*make<FLASH>(o));
}

TEST(FLASH, RefusesWhatItCannotBuildOrTake) {
  auto o = flash_options();
  o.norm_klass = "RMSNorm";
  EXPECT_EQ(refusal([&] { FLASH layer(o); }),
            "norm_klass: expected LayerNorm or ScaleNorm, got 'RMSNorm'");
  o = flash_options();
  o.group_size = 0;
  EXPECT_NE(refusal([&] { FLASH layer(o); }).find("group_size"), std::string::npos);
  o = flash_options();
  o.rotary_pos_emb = ModuleSpec{"FLASHRotaryEmbedding", R"({"dim": 8})"};
  EXPECT_EQ(refusal([&] { FLASH layer(o); }),
            "rotary_pos_emb: rotates 8 features, more than query_key_dim = 6");
  o.rotary_pos_emb = ModuleSpec{"RotaryEmbedding", R"({"dim": 4})"};
  EXPECT_NE(refusal([&] { FLASH layer(o); }).find("FLASHRotaryEmbedding"), std::string::npos);
  o = flash_options();
  o.expansion_factor = 0.01;
  EXPECT_NE(refusal([&] { FLASH layer(o); }).find("expansion_factor"), std::string::npos);
  auto gau = gau_options();
  gau.normalise = "none";
  EXPECT_EQ(refusal([&] { GAU layer(gau); }), "normalise: expected length or position, got 'none'");

  const auto layer = make<FLASH>(flash_options());
  EXPECT_NE(refusal([&] {
              run(*layer, tokens(), at::ones({kBatch, 9}, at::kBool));
            }).find("mask"),
            std::string::npos);
  EXPECT_NE(refusal([&] { run(*layer, at::randn({2, 3, 5})); }).find('x'), std::string::npos);
}

}  // namespace
}  // namespace x_transformers::flash_test
