// XValTransformerWrapper and XValAutoregressiveWrapper: what is meant where Python is wrong, cached
// generation, and wrong input refused by name.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/json_options.h"
#include "x_transformers/models/xval.h"
#include "x_transformers/wrappers/xval_autoregressive.h"

namespace x_transformers::xval_test {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

constexpr int64_t kNumber = 3, kDim = 16;
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

XValTransformerWrapper make_net(const char* layers = "{}", const char* net = "{}",
                                bool quirks = false) {
  auto config = parse_json(R"({"num_tokens": 6, "numerical_token_id": 3, "max_seq_len": 16})");
  config.update(parse_json(net));
  config["attn_layers"] =
      parse_json(R"({"type": "Decoder", "dim": 16, "depth": 2, "heads": 2, "attn_dim_head": 8})");
  config["attn_layers"].update(parse_json(layers));
  auto options = options_from_json<XValTransformerWrapperOptions>(config, "config");
  options.compat.python_quirks = quirks;
  at::manual_seed(1);
  XValTransformerWrapper made(options);
  made->eval();
  return made;
}

XValAutoregressiveWrapper make_wrapper(bool quirks = false, const char* net = "{}") {
  XValAutoregressiveWrapperOptions options;
  options.numerical_loss_weight = 0.5;
  options.compat.python_quirks = quirks;
  return XValAutoregressiveWrapper(make_net("{}", net, quirks), options);
}

XValInputs tokens() {
  XValInputs inputs;
  inputs.x = at::tensor({1, 3, 0, 3, 5, 3, 3, 2, 3, 4, 1, 0}).to(at::kLong).view({2, 6});
  inputs.x_num = at::randn({2, 6});
  return inputs;
}

TEST(XVal, NumbersScaleTheirTokenAlone) {
  auto net = make_net();
  auto inputs = tokens();
  const auto before = net->forward(inputs).logits;
  inputs.x_num = at::where(inputs.x == kNumber, inputs.x_num, at::full({}, kNaN));
  EXPECT_TRUE(at::allclose(net->forward(inputs).logits, before)) << "others are not read";
  inputs.x_num[0][3] += 1;
  const auto after = net->forward(inputs).logits;
  EXPECT_TRUE(at::allclose(after[0].narrow(0, 0, 3), before[0].narrow(0, 0, 3)));
  EXPECT_FALSE(at::allclose(after[0][3], before[0][3]));
  EXPECT_TRUE(at::allclose(after[1], before[1]));
}

TEST(XVal, MemoryTokensAndPrependedEmbeddingsGoWithAMask) {
  auto net = make_net(R"({"type": "Encoder"})", R"({"num_memory_tokens": 2})");
  auto inputs = tokens();
  inputs.mask = at::ones({2, 6}, at::kBool);
  inputs.mask[1].narrow(0, 4, 2).fill_(false);
  inputs.prepend_embeds = at::randn({2, 3, kDim});
  const auto before = net->forward(inputs);
  ASSERT_EQ(before.logits.sizes(), at::IntArrayRef({2, 9, 6}));
  EXPECT_EQ(before.memory_tokens.sizes(), at::IntArrayRef({2, 2, kDim}));
  inputs.x[1].narrow(0, 4, 2).fill_(2);
  const auto after = net->forward(inputs);
  EXPECT_TRUE(at::allclose(after.logits[1].narrow(0, 0, 7), before.logits[1].narrow(0, 0, 7)));
}

/// Python has the mean over all targets.
TEST(XValAutoregressive, TheNumberLossIsAMeanOverNumbers) {
  auto model = make_wrapper();
  const auto inputs = tokens();
  const auto output = model->forward(inputs);
  const auto is_number = inputs.x.narrow(1, 1, 5) == kNumber;
  const auto errors = output.numerical_mse_loss.masked_select(is_number);
  ASSERT_EQ(errors.numel(), 4);
  const auto cross_entropy = output.cross_entropy_loss.mean().item<double>();
  EXPECT_NEAR(output.loss.item<double>(), cross_entropy + 0.5 * errors.mean().item<double>(), 1e-5);
  const auto of_python = make_wrapper(true)->forward(inputs).loss.item<double>();
  EXPECT_NEAR(of_python, cross_entropy + 0.5 * errors.sum().item<double>() / 10, 1e-5);
}

/// A number that is not known has no error, and is no NaN to others; in Python one spreads.
TEST(XValAutoregressive, OneNaNDoesNotSpread) {
  auto inputs = tokens();
  const auto others = make_wrapper()->forward(inputs).numerical_mse_loss;
  inputs.x_num[0][5] = kNaN;  // a target alone
  auto model = make_wrapper();
  auto output = model->forward(inputs);
  const auto errors = output.numerical_mse_loss;
  EXPECT_EQ(errors[0][4].item<double>(), 0);
  EXPECT_TRUE(at::allclose(errors.flatten().narrow(0, 0, 4), others.flatten().narrow(0, 0, 4)));
  const auto cross_entropy = output.cross_entropy_loss.mean().item<double>();
  EXPECT_NEAR(output.loss.item<double>(), cross_entropy + 0.5 * errors.sum().item<double>() / 3,
              1e-5);
  inputs.x_num[0][1] = kNaN;  // an input, too
  output = model->forward(inputs);
  EXPECT_TRUE(std::isfinite(output.loss.item<double>()));
  output.loss.backward();
  for (const auto& parameter : model->parameters()) {
    if (parameter.grad().defined()) {
      EXPECT_TRUE(parameter.grad().isfinite().all().item<bool>());
    }
  }
  EXPECT_TRUE(std::isnan(make_wrapper(true)->forward(inputs).loss.item<double>()));
}

TEST(XValAutoregressive, ABatchInWhichNothingCountsTeachesNothing) {
  auto model = make_wrapper();
  auto inputs = tokens();
  inputs.mask = at::zeros({2, 6}, at::kBool);
  const auto loss = model->forward(inputs).loss;
  loss.backward();
  EXPECT_EQ(loss.item<double>(), 0);
  for (const auto& parameter : model->parameters())
    EXPECT_EQ(parameter.grad().defined() ? parameter.grad().abs().max().item<double>() : 0, 0);
}

TEST(XValAutoregressive, WithoutNumbersTheLossIsOfTokens) {
  auto inputs = tokens();
  inputs.x.masked_fill_(inputs.x == kNumber, 1);
  const auto output = make_wrapper()->forward(inputs);
  EXPECT_NEAR(output.loss.item<double>(), output.cross_entropy_loss.mean().item<double>(), 1e-6);
}

/// A mask as long as x, which fails in Python: targets count that exist.
TEST(XValAutoregressive, ATokenThatIsNoTargetIsSeenAllTheSame) {
  const auto loss = [](const at::Tensor& x) {
    XValAutoregressiveWrapperOptions options;
    options.ignore_index = 2;
    auto inputs = tokens();
    inputs.x = x;
    inputs.x_num = at::zeros({2, 6});
    return XValAutoregressiveWrapper(make_net(), options)->forward(inputs).loss.item<double>();
  };
  const auto x = tokens().x;  // 2 stands in the second row alone, before others
  EXPECT_NE(loss(x), loss(x.masked_fill(x == 2, 0)));
  auto inputs = tokens();
  inputs.x = x;
  inputs.x_num = at::zeros({2, 6});
  XValAutoregressiveWrapperOptions options;
  options.ignore_index = 2;
  auto net = make_net();
  const auto output = XValAutoregressiveWrapper(net, options)->forward(inputs);
  XValInputs seen;
  seen.x = x.narrow(1, 0, 5);
  seen.x_num = at::zeros({2, 5});
  const auto logits = net->forward(seen).logits;
  EXPECT_TRUE(at::allclose(
      output.loss,
      at::cross_entropy_loss(logits.reshape({10, 6}), x.narrow(1, 1, 5).reshape({10}), {}, 1, 2) +
          output.numerical_mse_loss.sum() / (x.narrow(1, 1, 5) == 3).sum()));
}

TEST(XValAutoregressive, AMaskMayBeAsLongAsTheTokens) {
  auto model = make_wrapper();
  auto inputs = tokens();
  inputs.mask = at::ones({2, 6}, at::kBool);
  inputs.mask[1].narrow(0, 4, 2).fill_(false);
  const auto loss = model->forward(inputs).loss;
  inputs.x[1].narrow(0, 4, 2).fill_(kNumber);
  inputs.x_num[1].narrow(0, 4, 2).fill_(100);
  EXPECT_TRUE(at::allclose(model->forward(inputs).loss, loss));
}

TEST(XValAutoregressive, PrependedEmbeddingsHaveNoTargets) {
  auto model = make_wrapper();
  auto inputs = tokens();
  inputs.prepend_embeds = at::randn({2, 3, kDim});
  const auto output = model->forward(inputs);
  EXPECT_EQ(output.cross_entropy_loss.sizes(), at::IntArrayRef({2, 5}));
  EXPECT_TRUE(std::isfinite(output.loss.item<double>()));
}

TEST(XValAutoregressive, CachedGenerationEqualsUncached) {
  for (const char* net : {"{}", R"({"num_memory_tokens": 2})", R"({"max_seq_len": 8})",
                          R"({"tie_embedding": true})"}) {
    auto model = make_wrapper(false, net);
    const auto inputs = tokens();
    XValGenerateOptions options;
    options.seq_len = 6;
    options.temperature = 0;
    const auto cached = model->generate(inputs, options);
    options.static_caches = true;
    const auto fixed = model->generate(inputs, options);
    options.cache_kv = false;
    const auto uncached = model->generate(inputs, options);
    EXPECT_TRUE(at::equal(fixed.sampled_token_ids, uncached.sampled_token_ids)) << net;
    EXPECT_TRUE(at::allclose(fixed.sampled_numbers, uncached.sampled_numbers, 1e-4, 1e-5, true))
        << net;
    EXPECT_TRUE(at::equal(cached.sampled_token_ids, uncached.sampled_token_ids)) << net;
    EXPECT_TRUE(at::allclose(cached.sampled_numbers, uncached.sampled_numbers, 1e-4, 1e-5, true))
        << net;
  }
}

TEST(XValAutoregressive, GivesNumbersWhereItDrewTheirToken) {
  auto model = make_wrapper();
  XValGenerateOptions options;
  options.seq_len = 40;
  options.filter_kwargs = {{"k", 6}};
  options.seed = 3;
  const auto drawn = model->generate(tokens(), options);
  ASSERT_EQ(drawn.sampled_token_ids.sizes(), at::IntArrayRef({2, 40}));
  EXPECT_TRUE(at::equal(drawn.is_number_mask, drawn.sampled_token_ids == kNumber));
  EXPECT_TRUE(at::equal(drawn.sampled_numbers.isnan(), ~drawn.is_number_mask));
  EXPECT_TRUE(drawn.is_number_mask.any().item<bool>());
  const auto again = model->generate(tokens(), options);
  EXPECT_TRUE(
      at::equal(again.sampled_token_ids.narrow(1, 0, 1), drawn.sampled_token_ids.narrow(1, 0, 1)));
}

template <class Call>
void expect_refusal(Call call, const char* text) {
  EXPECT_THAT(call, ThrowsMessage<InputError>(HasSubstr(text)));
}

TEST(XVal, RefusesOptionsThatDoNotGoTogether) {
  expect_refusal([] { make_net("{}", R"({"numerical_token_id": 6})"); }, "numerical_token_id");
  expect_refusal([] { make_net("{}", R"({"numerical_token_id": -1})"); }, "numerical_token_id");
  expect_refusal([] { make_net("{}", R"({"emb_dim": 8})"); }, "emb_dim");
  expect_refusal([] { make_net("{}", R"({"max_seq_len": 0})"); }, "max_seq_len");
  XValAutoregressiveWrapperOptions options;
  options.pad_value = 6;
  expect_refusal([&] { XValAutoregressiveWrapper(make_net(), options); }, "pad_value");
}

TEST(XVal, RefusesInputsThatDoNotFit) {
  auto net = make_net();
  auto model = make_wrapper();
  const auto with = [](auto set) {
    auto inputs = tokens();
    set(inputs);
    return inputs;
  };
  using I = XValInputs;
  expect_refusal([&] { net->forward(with([](I& i) { i.x_num = at::randn({2, 5}); })); }, "x_num");
  expect_refusal([&] { net->forward(with([](I& i) { i.x_num = at::Tensor(); })); }, "x_num");
  expect_refusal([&] { net->forward(with([](I& i) { i.x = at::randn({2, 6}); })); }, "x:");
  expect_refusal([&] { net->forward(with([](I& i) {
                         i.mask = at::ones({2, 4}, at::kBool);
                       })); },
                 "mask");
  expect_refusal([&] { model->forward(with([](I& i) {
                         i.mask = at::ones({2, 4}, at::kBool);
                       })); },
                 "mask");
  expect_refusal([&] { model->forward(with([](I& i) { i.x = i.x.narrow(1, 0, 1); })); },
                 "at least two");
  XValGenerateOptions options;
  options.seq_len = 2;
  options.filter_logits_fn = "top_q";
  expect_refusal([&] { model->generate(tokens(), options); }, "top_");
}

}  // namespace
}  // namespace x_transformers::xval_test
