// ContinuousTransformerWrapper and ContinuousAutoregressiveWrapper beside their numbers: nothing
// looks ahead, cached decoding equals uncached decoding, each row is what it is alone, rollouts go
// on from their own predictions, and wrong input is refused by name.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "warnings.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/json_options.h"
#include "x_transformers/models/continuous.h"
#include "x_transformers/models/embedded_session.h"
#include "x_transformers/wrappers/continuous_autoregressive.h"

namespace x_transformers::continuous_test {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

constexpr int64_t kBatch = 3, kIn = 5, kPrompt = 4, kTokens = 8;

ContinuousTransformerWrapper make_net(const char* layers = "{}", const char* net = "{}") {
  auto config = parse_json(R"({"dim_in": 5, "dim_out": 5, "max_seq_len": 16})");
  config.update(parse_json(net));
  config["attn_layers"] =
      parse_json(R"({"type": "Decoder", "dim": 16, "depth": 2, "heads": 2, "attn_dim_head": 8})");
  config["attn_layers"].update(parse_json(layers));
  at::manual_seed(1);
  ContinuousTransformerWrapper made(
      options_from_json<ContinuousTransformerWrapperOptions>(config, "config"));
  made->eval();
  return made;
}

/// `net` is a module holder, or a pointer to a net.
template <class Net>
at::Tensor run(Net&& net, const at::Tensor& x, ContinuousInputs inputs = {}) {
  inputs.x = x;
  return net->forward(inputs).out;
}

void expect_close(const at::Tensor& a, const at::Tensor& b, const std::string& what) {
  ASSERT_EQ(a.sizes(), b.sizes()) << what;
  EXPECT_TRUE(at::allclose(a, b, 1e-4, 2e-5)) << what << ": " << (a - b).abs().max().item<double>();
}

TEST(Continuous, NothingLooksAhead) {
  for (const char* layers : {"{}", R"({"rotary_pos_emb": true})", R"({"shift_tokens": 1})"}) {
    auto net = make_net(layers, R"({"num_memory_tokens": 2})");
    auto x = at::randn({kBatch, kTokens, kIn});
    const auto before = run(net, x);
    x.narrow(1, kPrompt, kTokens - kPrompt).normal_();
    expect_close(run(net, x).narrow(1, 0, kPrompt), before.narrow(1, 0, kPrompt), layers);
  }
}

TEST(Continuous, WhatAMaskHidesIsNotSeen) {
  auto net = make_net(R"({"type": "Encoder"})", R"({"num_memory_tokens": 2})");
  ContinuousInputs inputs;
  inputs.lens = at::tensor({8, 5, 3});
  inputs.prepend_embeds = at::randn({kBatch, 2, 16});
  auto x = at::randn({kBatch, kTokens, kIn});
  const auto before = run(net, x, inputs);
  for (int64_t row = 0; row < kBatch; ++row) {
    const auto length = inputs.lens[row].item<int64_t>();
    x[row].narrow(0, length, kTokens - length).normal_();
  }
  const auto after = run(net, x, inputs);
  ASSERT_EQ(after.sizes(), at::IntArrayRef({kBatch, kTokens + 2, kIn}));
  for (int64_t row = 0; row < kBatch; ++row) {
    const auto length = inputs.lens[row].item<int64_t>() + 2;
    expect_close(after[row].narrow(0, 0, length), before[row].narrow(0, 0, length), "row");
  }
}

/// The mean over the sequence without a mask, which fails in Python.
TEST(Continuous, AveragePoolNeedsNoMask) {
  auto net = make_net("{}", R"({"average_pool_embed": true})");
  const auto x = at::randn({kBatch, kTokens, kIn});
  ContinuousInputs inputs;
  inputs.lens = at::full({kBatch}, kTokens, at::kLong);
  const auto pooled = run(net, x);
  EXPECT_EQ(pooled.sizes(), at::IntArrayRef({kBatch, kIn}));
  expect_close(run(net, x, inputs), pooled, "lens");
  ContinuousInputs whole;
  whole.x = x;
  const auto output = net->forward(whole);
  EXPECT_EQ(output.embeddings.sizes(), at::IntArrayRef({kBatch})) << "as Python 2.16.1";
  expect_close(output.embeddings, output.layers.out.mean(1).sum(-1), "sum of the mean");
}

/// One entry after the other against the whole sequence at once.
struct SessionCase {
  const char* name;
  const char* layers;
  const char* net;
  void (*set)(ContinuousInputs& inputs);
};
using I = ContinuousInputs;
const SessionCase kSessions[] = {
    {"Plain", "{}", "{}", [](I&) {}},
    {"Rotary", R"({"rotary_pos_emb": true})", "{}", [](I&) {}},
    {"Alibi", R"({"alibi_pos_bias": true, "attn_kv_heads": 1})", "{}", [](I&) {}},
    {"T5", R"({"rel_pos_bias": true})", "{}", [](I&) {}},
    {"Sinusoidal", "{}", R"({"scaled_sinu_pos_emb": true})", [](I&) {}},
    {"ShiftTokens", R"({"shift_tokens": 1})", "{}", [](I&) {}},
    {"MemoryTokens", "{}", R"({"num_memory_tokens": 2})", [](I&) {}},
    {"Prepended", "{}", R"({"num_memory_tokens": 2})",
     [](I& i) {
       i.prepend_embeds = at::randn({kBatch, 3, 16});
       i.prepend_mask = at::tensor({1, 1, 0}).to(at::kBool).expand({kBatch, 3});
     }},
    {"Mask", "{}", R"({"num_memory_tokens": 2})",
     [](I& i) {
       i.mask = at::tensor({1, 0, 1, 1}).to(at::kBool).expand({kBatch, kPrompt});
     }},
    {"Mems", "{}", "{}",
     [](I& i) {
       i.mems = {at::randn({kBatch, 3, 16}), at::randn({kBatch, 3, 16})};
     }},
    {"Context", R"({"cross_attend": true})", "{}",
     [](I& i) {
       i.layers.context = at::randn({kBatch, 5, 16});
     }},
    {"SumEmbeds", "{}", "{}",
     [](I& i) {
       i.sum_embeds = at::randn({kBatch, kTokens, 16});
     }},
    {"Pos", "{}", "{}",
     [](I& i) {
       i.pos = at::randint(16, {kBatch, kTokens}, at::kLong);
     }},
    {"SeqStartPos", "{}", "{}",
     [](I& i) {
       i.seq_start_pos = at::tensor({0, 2, 1});
     }},
    {"Condition", R"({"use_adaptive_layernorm": true})", "{}",
     [](I& i) {
       i.layers.condition = at::randn({kBatch, kTokens, 16});
     }},
    {"Window", "{}", R"({"max_seq_len": 6})", [](I&) {}},
    {"Probabilistic", "{}", R"({"probabilistic": true})", [](I&) {}},
};

class ContinuousSessions : public testing::TestWithParam<SessionCase> {};

TEST_P(ContinuousSessions, CachedEqualsUncached) {
  const auto& c = GetParam();
  auto net = make_net(c.layers, c.net);
  const at::NoGradGuard no_grad;
  ContinuousInputs inputs;
  c.set(inputs);
  ASSERT_EQ(net->cache_unsupported(), "");
  EmbeddedSession<ContinuousNet> cached(net.ptr(), inputs, {.cache_kv = true}),
      fixed(net.ptr(), inputs, {.cache_kv = true, .static_caches = true}),
      uncached(net.ptr(), inputs, {.cache_kv = false});
  const auto x = at::randn({kBatch, kTokens, kIn});
  for (int64_t begin = 0, end = kPrompt; end <= kTokens; begin = end++) {
    const auto entries = x.narrow(1, begin, end - begin);
    const auto last = [](const at::Tensor& out) { return out.select(-2, out.size(-2) - 1); };
    const auto a = last(cached.append({entries}).out), b = last(uncached.append({entries}).out);
    expect_close(a, b, std::string(c.name) + " at " + std::to_string(end));
    expect_close(last(fixed.append({entries}).out), b,
                 std::string(c.name) + ", fixed, at " + std::to_string(end));
  }
}

INSTANTIATE_TEST_SUITE_P(Inputs, ContinuousSessions, testing::ValuesIn(kSessions),
                         [](const auto& info) { return std::string(info.param.name); });

ContinuousAutoregressiveWrapper make_wrapper(const char* layers = "{}", const char* net = "{}",
                                             const ContinuousAutoregressiveWrapperOptions& o = {}) {
  return ContinuousAutoregressiveWrapper(make_net(layers, net), o);
}

TEST(ContinuousAutoregressive, ARowGoesOnAsAlone) {
  auto model = make_wrapper();
  ContinuousInputs all;
  all.x = at::randn({kBatch, kPrompt, kIn});
  const auto generated = model->generate(all, {.seq_len = 6});
  ASSERT_EQ(generated.sizes(), at::IntArrayRef({kBatch, 6, kIn}));
  for (int64_t row = 0; row < kBatch; ++row) {
    ContinuousInputs one;
    one.x = all.x[row];
    expect_close(model->generate(one, {.seq_len = 6}), generated[row], "row");
  }
  EXPECT_FALSE(generated.requires_grad());
}

TEST(ContinuousAutoregressive, DrawsAreMeansAtTemperatureZeroAndRepeatWithASeed) {
  auto model = make_wrapper("{}", R"({"probabilistic": true})");
  ContinuousInputs inputs;
  inputs.x = at::randn({kBatch, kPrompt, kIn});
  const auto mean = model->generate(inputs, {.seq_len = 1, .temperature = 0});
  auto net = model->net();
  expect_close(mean.squeeze(1), run(net, inputs.x).select(0, 0).select(1, kPrompt - 1), "mean");
  const auto draw = [&](int64_t seed) {
    return model->generate(inputs, {.seq_len = 3, .seed = seed});
  };
  EXPECT_TRUE(at::equal(draw(3), draw(3)));
  EXPECT_FALSE(at::equal(draw(3), draw(4)));
}

/// What a single entry is predicted from, and how: a rollout by hand, of rows that begin with one
/// entry since no more is left.
TEST(ContinuousAutoregressive, ARolloutGoesOnFromItsOwnPredictions) {
  for (const char* layers : {"{}", R"({"type": "Encoder"})", R"({"rotary_pos_emb": true})"}) {
    constexpr int64_t kSteps = 3;
    auto model = make_wrapper(layers, R"({"num_memory_tokens": 1})");
    auto net = model->net();
    const auto x = at::randn({kBatch, kSteps + 1, kIn});
    auto so_far = x.narrow(1, 0, 1);
    for (int64_t step = 0; step < kSteps; ++step) {
      const auto out = run(net, so_far);
      so_far = at::cat({so_far, out.narrow(1, out.size(1) - 1, 1)}, 1);
    }
    const auto wanted = at::mse_loss(so_far.narrow(1, 1, kSteps), x.narrow(1, 1, kSteps));
    ContinuousInputs inputs;
    inputs.x = x;
    const auto loss = model->rollout(inputs, kSteps);
    expect_close(loss, wanted, layers);
    // Through the predictions, too.
    const auto parameters = net->parameters();
    const auto gradients_of = [&](const at::Tensor& of) {
      net->zero_grad();
      of.backward();
      std::vector<at::Tensor> gradients;
      for (const auto& parameter : parameters) {
        const auto& grad = parameter.grad();
        gradients.push_back(grad.defined() ? grad.clone() : at::zeros_like(parameter));
      }
      return gradients;
    };
    const auto gradients = gradients_of(loss), by_hand = gradients_of(wanted);
    for (size_t i = 0; i < parameters.size(); ++i)
      expect_close(gradients[i], by_hand[i], "gradient");
  }
}

/// Rows begin with different numbers of entries, and what comes later in them does not count.
TEST(ContinuousAutoregressive, ARolloutSeesNoTargetsAndNoRowsThatAreTooShort) {
  for (const char* layers : {"{}", R"({"type": "Encoder"})"}) {
    auto model = make_wrapper(layers);
    ContinuousInputs inputs;
    inputs.x = at::randn({kBatch, kTokens, kIn});
    inputs.lens = at::tensor({3, 8, 2});
    const auto loss = [&] {
      at::manual_seed(7);
      return model->rollout(inputs, 2).item<double>();
    };
    const auto before = loss();
    inputs.x[0].narrow(0, 3, kTokens - 3).normal_();
    inputs.x[2].normal_();
    EXPECT_NEAR(loss(), before, 1e-6) << layers;
    inputs.x[0][2].normal_();
    EXPECT_GT(std::abs(loss() - before), 1e-4) << layers;
  }
}

TEST(ContinuousAutoregressive, ARolloutOfAProbabilisticNetHasALoss) {
  auto model = make_wrapper("{}", R"({"probabilistic": true})");
  ContinuousInputs inputs;
  inputs.x = at::randn({kBatch, kTokens, kIn});
  const auto loss = model->rollout(inputs, 3);
  EXPECT_EQ(loss.dim(), 0);
  EXPECT_TRUE(loss.isfinite().item<bool>());
  loss.backward();
}

TEST(ContinuousAutoregressive, ARolloutTakesAMaskThatHidesTheEndsOfRows) {
  auto model = make_wrapper();
  ContinuousInputs inputs;
  inputs.x = at::randn({3, 8, kIn});
  const auto loss = [&] {
    at::manual_seed(3);
    return model->rollout(inputs, 2).item<double>();
  };
  const auto of_all = loss();
  inputs.lens = at::tensor({8, 5, 3});
  const auto of_lens = loss();
  inputs.lens = at::Tensor();
  inputs.mask = at::arange(8) < at::tensor({8, 5, 3}).unsqueeze(-1);
  EXPECT_EQ(loss(), of_lens);
  EXPECT_NE(of_lens, of_all);
  const CollectedWarnings warnings;
  inputs.mask = at::arange(8).remainder(2).eq(0).expand({3, 8});
  EXPECT_EQ(loss(), of_all);  // as in Python, which reads no mask here
  EXPECT_THAT(warnings.messages(), testing::Contains(HasSubstr("mask")));
}

/// With python_quirks the numbers of Python 2.16.1 (torch.manual_seed(7), rollout_steps=3; the
/// weights sin(0.7 i + length of the name) * 0.3, x = cos(0.9 i)).
TEST(ContinuousAutoregressive, QuirksGivePythonsRollout) {
  for (const auto& [net, rows, wanted] :
       {std::tuple("{}", 3, 3.6311421), std::tuple(R"({"probabilistic": true})", 1, 3.8404093)}) {
    ContinuousAutoregressiveWrapperOptions options;
    options.compat.python_quirks = true;
    auto model = make_wrapper("{}", net, options);
    const auto filled = [](int64_t count, double step, double begin) {
      return at::arange(count, at::kDouble) * step + begin;
    };
    const at::NoGradGuard no_grad;
    for (auto& item : model->net()->named_parameters()) {
      const auto begin = static_cast<double>(item.key().size());
      item.value().copy_(
          (filled(item.value().numel(), 0.7, begin).sin() * 0.3).view_as(item.value()));
    }
    ContinuousInputs inputs;
    inputs.x = filled(3 * kTokens * kIn, 0.9, 0).cos().to(at::kFloat).view({3, kTokens, kIn});
    inputs.x = inputs.x.narrow(0, 0, rows);
    at::manual_seed(7);
    EXPECT_NEAR(model->rollout(inputs, 3).item<double>(), wanted, 1e-4) << net;
  }
}

TEST(ContinuousAutoregressive, ABatchOfPaddingDoesNoHarm) {
  for (const bool weighs_rows : {false, true}) {
    ContinuousAutoregressiveWrapperOptions options;
    options.equal_loss_weight_batch = weighs_rows;
    ContinuousAutoregressiveWrapper model(make_net(), options);
    ContinuousInputs inputs;
    inputs.x = at::randn({kBatch, kTokens, kIn});
    inputs.mask = at::zeros({kBatch, kTokens}, at::kBool);
    const auto loss = model->forward(inputs);
    EXPECT_EQ(loss.item<double>(), 0.0);
    loss.backward();
    for (const auto& parameter : model->parameters()) {
      if (!parameter.grad().defined()) continue;
      EXPECT_TRUE(parameter.grad().eq(0).all().item<bool>());
    }
  }
}

/// A net of the caller's own: each entry comes out as it went in, `step` times as large.
class Growing : public ContinuousNet {
 public:
  explicit Growing(double step) : step_(register_parameter("step", at::tensor(step))) {}
  ContinuousOutput forward(const ContinuousInputs& inputs) override {
    ContinuousOutput output;
    output.out = inputs.x * step_;
    return output;
  }
  std::optional<int64_t> dim_in() const override { return std::nullopt; }
  std::optional<int64_t> dim_out() const override { return std::nullopt; }
  bool is_probabilistic() const override { return false; }
  bool pools() const override { return false; }
  int64_t max_seq_len() const override { return 0; }
  std::optional<TokenLimit> embedded_positions() const override { return std::nullopt; }
  bool is_causal() const override { return true; }
  int64_t memory_tokens() const override { return 0; }
  Text cache_unsupported(const ContinuousInputs&) const override { return "it has none"; }
  Text static_cache_unsupported() const override { return "it has none"; }
  TransformerCache make_cache(int64_t) const override { return {}; }

 private:
  at::Tensor step_;
};

TEST(ContinuousAutoregressive, TrainsAndContinuesANetThatItDidNotBuild) {
  ContinuousAutoregressiveWrapper model(std::make_shared<Growing>(3.0));
  ContinuousInputs inputs;
  inputs.x = at::tensor({1.0, 2.0, 4.0}).view({1, 3, 1});
  const auto loss = model->forward(inputs);
  EXPECT_DOUBLE_EQ(loss.item<double>(), (1.0 + 4.0) / 2);  // 3 for 2, 6 for 4
  loss.backward();
  // d/ds of ((s - 2)^2 + (2 s - 4)^2) / 2 at s = 3
  EXPECT_DOUBLE_EQ(model->parameters().at(0).grad().item<double>(), 1.0 + 4.0);
  const at::NoGradGuard no_grad;
  const auto generated = model->generate(inputs, {.seq_len = 2});
  EXPECT_TRUE(generated.flatten().equal(at::tensor({12.0, 36.0})));
}

TEST(ContinuousAutoregressive, NeedsANet) {
  const ContinuousTransformerWrapper none = nullptr;
  EXPECT_THAT([&] { ContinuousAutoregressiveWrapper model(none); },
              ThrowsMessage<InputError>(HasSubstr("net: is needed")));
}

TEST(ContinuousAutoregressive, TakesALossFromCpp) {
  ContinuousAutoregressiveWrapperOptions options;
  options.loss_fn = [](const at::Tensor& predicted, const at::Tensor& target) {
    return (predicted - target).abs().pow(3);
  };
  auto model = make_wrapper("{}", "{}", options);
  auto net = model->net();
  ContinuousInputs inputs;
  inputs.x = at::randn({kBatch, kTokens, kIn});
  const auto predicted = run(net, inputs.x.narrow(1, 0, kTokens - 1));
  const auto target = inputs.x.narrow(1, 1, kTokens - 1);
  expect_close(model->forward(inputs), (predicted - target).abs().pow(3).mean(), "loss");
}

template <class Call>
void expect_refusal(Call call, const char* text) {
  EXPECT_THAT(call, ThrowsMessage<InputError>(HasSubstr(text)));
}

TEST(Continuous, RefusesOptionsThatDoNotGoTogether) {
  expect_refusal([] { make_net("{}", R"({"dim_in": 0})"); }, "dim_in");
  expect_refusal([] { make_net("{}", R"({"project_in": "Identity"})"); }, "project_in");
  expect_refusal([] { make_net("{}", R"({"project_out": "Identity"})"); }, "project_out");
  expect_refusal([] { make_net("{}", R"({"dim_in": null, "project_in": "Lineer"})"); }, "Linear");
  expect_refusal([] { make_net("{}", R"({"max_seq_len": -1})"); }, "max_seq_len");
  expect_refusal([] { make_net("{}", R"({"emb_dropout": 2.0})"); }, "emb_dropout");
  expect_refusal([] { make_net(R"({"dim": 15})", R"({"dim_out": null, "probabilistic": true})"); },
                 "probabilistic");
  expect_refusal([] { make_wrapper("{}", R"({"dim_out": 4})"); }, "net.dim_out");
  expect_refusal([] { make_wrapper("{}", R"({"average_pool_embed": true})"); },
                 "net.average_pool_embed");
  ContinuousAutoregressiveWrapperOptions options;
  options.loss_fn.emplace(ModuleSpec{"L1Los"});
  expect_refusal([&] { make_wrapper("{}", "{}", options); }, "L1Loss");
  options.loss_fn.emplace(ModuleSpec{"L1Loss", R"({"reduction": "some"})"});
  expect_refusal([&] { make_wrapper("{}", "{}", options); }, "loss_fn.reduction");
}

TEST(Continuous, RefusesInputsThatDoNotFit) {
  auto net = make_net();
  const auto x = at::randn({2, 6, kIn});
  const auto with = [&](auto set) {
    ContinuousInputs inputs;
    set(inputs);
    return [&net, inputs, x] { run(net, x, inputs); };
  };
  expect_refusal([&] { run(net, at::randn({2, 6, 4})); }, "dim_in");
  expect_refusal([&] { run(net, at::randn({2, 17, kIn})); }, "max_seq_len");
  expect_refusal([&] { run(net, at::ones({2, 6, kIn}, at::kLong)); }, "x:");
  expect_refusal(with([](I& i) { i.mask = at::ones({2, 5}, at::kBool); }), "mask");
  expect_refusal(with([](I& i) { i.lens = at::ones({3}, at::kLong); }), "lens");
  expect_refusal(with([](I& i) {
                   i.lens = at::tensor({7, 1});
                 }),
                 "lens: expected lengths of 0 to 6, got 7");
  expect_refusal(with([](I& i) { i.lens = at::tensor({-1, 1}); }), "got -1");
  expect_refusal(with([](I& i) {
                   i.lens = at::ones({2}, at::kLong);
                   i.mask = at::ones({2, 6}, at::kBool);
                 }),
                 "at most one");
  expect_refusal(with([](I& i) { i.pos = at::ones({2, 5}, at::kLong); }), "pos");
  expect_refusal(with([](I& i) { i.sum_embeds = at::randn({2, 6, 8}); }), "sum_embeds");
  expect_refusal(with([](I& i) { i.prepend_embeds = at::randn({2, 3, 8}); }), "prepend_embeds");
  expect_refusal(with([](I& i) {
                   i.prepend_embeds = at::randn({2, 3, 16});
                   i.prepend_mask = at::ones({2, 2}, at::kBool);
                 }),
                 "prepend_mask");
}

TEST(ContinuousAutoregressive, RefusesWhatHasNoLoss) {
  auto model = make_wrapper();
  const auto with = [&](auto set) {
    ContinuousInputs inputs;
    inputs.x = at::randn({2, 6, kIn});
    set(inputs);
    return [&model, inputs] { model->forward(inputs); };
  };
  expect_refusal(with([](I& i) { i.x = at::randn({2, 1, kIn}); }), "at least two");
  expect_refusal(with([](I& i) { i.prepend_embeds = at::randn({2, 1, 16}); }), "prepend_embeds");
  expect_refusal(with([](I& i) {
                   i.lens = at::tensor({7, 1});
                 }),
                 "lens: expected lengths of 0 to 6, got 7");
  ContinuousInputs inputs;
  inputs.x = at::randn({2, 3, kIn});
  expect_refusal([&] { model->rollout(inputs, 3); }, "rollout_steps");
  expect_refusal([&] { model->rollout(inputs, 1); }, "rollout_steps");
  inputs.mask = at::ones({2, 3}, at::kBool);
  inputs.lens = at::tensor({3, 3});
  expect_refusal([&] { model->rollout(inputs, 2); }, "mask and lens");
  inputs.lens = at::Tensor();
  ContinuousAutoregressiveWrapperOptions options;
  options.loss_fn.emplace(ModuleSpec{"L1Loss"});
  auto reduced = make_wrapper("{}", "{}", options);
  expect_refusal([&] { reduced->forward(inputs); }, "reduction none");
  inputs.mask = at::Tensor();
  inputs.x = at::randn({3});
  expect_refusal([&] { model->generate(inputs, {.seq_len = 2}); }, "start_tokens");
  inputs.x = at::randn({2, 3, kIn + 1});
  expect_refusal([&] { model->generate(inputs, {.seq_len = 2}); }, "start_tokens");
}

}  // namespace
}  // namespace x_transformers::continuous_test
