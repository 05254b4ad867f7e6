// What chance does in training, and only there: each kind of dropout, layers left out, steps of
// recycling, noise of gumbel softmax. By outcomes that eval mode can compute one by one, and how
// often each comes.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <string>
#include <vector>

#include "x_transformers/layers/attention_layers.h"
#include "x_transformers/models/transformer_wrapper.h"
#include "x_transformers/models/vision.h"
#include "x_transformers/nn/attend.h"
#include "x_transformers/nn/attention.h"
#include "x_transformers/nn/feed_forward.h"

namespace x_transformers::train_time_test {
namespace {

constexpr int64_t kDraws = 4000;
constexpr double kDropped = 0.3;

/// Five standard deviations of the share of `draws` that have an event of this probability.
double tolerance(double probability, int64_t draws) {
  return 5 * std::sqrt(probability * (1 - probability) / static_cast<double>(draws));
}

/// The entries of `train` are those of `eval` / (1 - p), or zero with probability p.
void expect_dropped(const at::Tensor& train, const at::Tensor& eval, double p) {
  ASSERT_EQ(train.sizes(), eval.sizes());
  const auto dropped = train == 0;
  const auto kept = at::where(dropped, at::zeros_like(eval), eval / (1 - p));
  EXPECT_TRUE(at::allclose(train, kept, 1e-4, 1e-5)) << (train - kept).abs().max();
  const auto share = dropped.to(at::kDouble).mean().item<double>();
  EXPECT_NEAR(share, p, tolerance(p, train.numel()));
}

template <class Module, class Run>
void expect_dropped(Module module, double p, Run run) {
  const torch::NoGradGuard no_grad;
  at::manual_seed(7);
  module->eval();
  const auto eval = run();
  EXPECT_TRUE(at::equal(eval, run())) << "chance in eval mode";
  EXPECT_FALSE((eval == 0).any().template item<bool>());
  module->train();
  expect_dropped(run(), eval, p);
}

at::Tensor some(at::IntArrayRef shape) {
  at::manual_seed(5);
  return at::randn(shape);
}

AttentionOptions attention() {
  AttentionOptions options;
  options.dim = options.dim_head = 8;
  options.heads = 1;
  return options;
}

AttentionLayersOptions stack() {
  AttentionLayersOptions options;
  options.kind = LayersKind::encoder;
  options.dim = 8;
  options.depth = 1;
  options.heads = 1;
  options.attn.dim_head = 8;
  return options;
}

class AttentionDropout : public testing::TestWithParam<bool> {};

// The weight of an only key is 1, so that dropping it leaves nothing.
TEST_P(AttentionDropout, LeavesOutWeights) {
  AttentionOptions options = attention();
  options.flash = GetParam();
  auto& engines = options.sdp_kwargs;
  engines.enable_flash = engines.enable_mem_efficient = engines.enable_cudnn = GetParam();
  options.dropout = kDropped;
  Attention module(options);
  AttentionInputs inputs;
  inputs.x = some({kDraws, 1, 8});
  // One weight drops all features of a row.
  expect_dropped(module, kDropped, [&] { return module->forward(inputs).out.narrow(-1, 0, 1); });
}

INSTANTIATE_TEST_SUITE_P(Engines, AttentionDropout, testing::Bool());

TEST(TrainTime, SublayerDropoutOfAttentionLeavesOutFeatures) {
  auto options = attention();
  options.sublayer_dropout = kDropped;
  Attention module(options);
  AttentionInputs inputs;
  inputs.x = some({kDraws, 2, 8});
  expect_dropped(module, kDropped, [&] { return module->forward(inputs).out; });
}

TEST(TrainTime, SublayerDropoutOfFeedForwardLeavesOutFeatures) {
  FeedForwardOptions options;
  options.dim = 8;
  options.sublayer_dropout = kDropped;
  FeedForward module(options);
  const auto x = some({kDraws, 8});
  expect_dropped(module, kDropped, [&] { return module->forward(x); });
}

TEST(TrainTime, DropoutOfFeedForwardLeavesOutHiddenFeatures) {
  for (const bool glu : {false, true}) {
    FeedForwardOptions options;
    options.dim = 8;
    options.mult = 1;
    options.glu = glu;
    options.no_bias = true;
    options.dropout = kDropped;
    FeedForward module(options);
    {
      const torch::NoGradGuard no_grad;
      module->named_parameters()["ff.2.weight"].copy_(at::eye(8));  // shows what is hidden
    }
    const auto x = some({kDraws, 8});
    expect_dropped(module, kDropped, [&] { return module->forward(x); });
  }
}

/// A stack that passes on what it gets.
AttentionLayersOptions identity() {
  auto options = stack();
  options.zero_init_branch_output = true;
  options.pre_norm_has_final_norm = false;
  options.ff.no_bias = true;
  return options;
}

TEST(TrainTime, DropoutOfEmbeddingsLeavesOutTheirFeatures) {
  TransformerWrapperOptions options;
  options.num_tokens = 16;
  options.max_seq_len = 64;
  options.attn_layers = identity();
  options.return_only_embed = true;
  options.emb_dropout = kDropped;
  TransformerWrapper model(options);
  at::manual_seed(5);
  const auto tokens = at::randint(16, {kDraws / 32, 64}, at::kLong);
  expect_dropped(model, kDropped, [&] { return model->forward(tokens); });
}

TEST(TrainTime, DropoutOfPatchesLeavesOutTheirFeatures) {
  ViTransformerWrapperOptions options;
  options.image_size = 8;
  options.patch_size = 2;
  options.attn_layers = identity();
  options.emb_dropout = kDropped;
  ViTransformerWrapper model(options);
  const auto img = some({100, 3, 8, 8});
  expect_dropped(model, kDropped, [&] { return model->forward(img).embeddings; });
}

/// How often each of the results in `expected` comes, in `draws` calls of `run`; each call must
/// give one of them.
template <class Run>
std::vector<double> shares(const std::vector<at::Tensor>& expected, int64_t draws, Run run) {
  std::vector<double> counts(expected.size());
  for (int64_t i = 0; i < draws; ++i) {
    const auto result = run();
    size_t found = 0;
    while (found < expected.size() && !at::allclose(result, expected[found], 1e-4, 1e-5)) ++found;
    if (found == expected.size()) {
      ADD_FAILURE() << "a result that no choice gives";
      break;
    }
    counts[found] += 1.0 / static_cast<double>(draws);
  }
  return counts;
}

/// A layer left out in training is the stack run without it.
void expect_layers_left_out(AttentionLayersOptions options) {
  const torch::NoGradGuard no_grad;
  constexpr double kFirst = 0.25, kSecond = 0.6;
  constexpr int64_t kCalls = 500;
  options.layer_dropout = std::vector<double>{kFirst, kSecond};
  at::manual_seed(3);
  AttentionLayers module(options);
  for (auto& parameter : module->parameters()) parameter.add_(0.3 * at::randn_like(parameter));
  AttentionLayersInputs inputs;
  inputs.x = some({2, 3, 8});
  module->eval();
  std::vector<at::Tensor> expected;
  for (const auto& order : std::vector<std::vector<int64_t>>{{}, {0}, {1}, {0, 1}}) {
    auto some_layers = inputs;
    some_layers.layers_execute_order = order;
    expected.push_back(module->forward(some_layers).out);
  }
  EXPECT_TRUE(at::equal(module->forward(inputs).out, expected[3]))
      << "layers left out in eval mode";
  module->train();
  at::manual_seed(7);
  const auto found = shares(expected, kCalls, [&] { return module->forward(inputs).out; });
  const std::vector<double> probabilities = {kFirst * kSecond, (1 - kFirst) * kSecond,
                                             kFirst * (1 - kSecond), (1 - kFirst) * (1 - kSecond)};
  for (size_t i = 0; i < found.size(); ++i)
    EXPECT_NEAR(found[i], probabilities[i], tolerance(probabilities[i], kCalls)) << i;
}

TEST(TrainTime, LayerDropoutLeavesOutEachLayerByItsOwnChance) { expect_layers_left_out(stack()); }

TEST(TrainTime, LayerDropoutOfResidualStreams) {
  auto options = stack();
  options.num_residual_streams = 2;
  expect_layers_left_out(options);
}

TEST(TrainTime, LayerDropoutLeavesIntegratedLayersTheirPlaces) {
  for (const int64_t streams : {1, 2}) {
    auto options = stack();
    options.depth = 3;
    options.integrate_layers = true;
    options.num_residual_streams = streams;
    options.layer_dropout = 0.5;
    AttentionLayers module(options);
    AttentionLayersInputs inputs;
    inputs.x = some({2, 3, 8});
    for (int i = 0; i < 20; ++i) EXPECT_EQ(module->forward(inputs).out.sizes(), inputs.x.sizes());
  }
}

TEST(TrainTime, LayerDropoutLeavesFeedForwardsTheirDeepEmbeddings) {
  const torch::NoGradGuard no_grad;
  auto options = stack();
  options.custom_layers = {{"f", "f"}};
  options.depth = std::nullopt;
  options.layer_dropout = 0.5;
  AttentionLayers module(options);
  AttentionLayersInputs inputs;
  inputs.x = some({2, 3, 8});
  inputs.deep_embeds = some({2, 3, 2, 8});
  inputs.deep_embeds.select(2, 1).zero_();  // so that the second layer does nothing
  module->eval();
  auto first = inputs;
  first.layers_execute_order = {{0}};
  const auto with = module->forward(first).out;
  first.layers_execute_order = {std::vector<int64_t>{}};
  const auto without = module->forward(first).out;
  module->train();
  shares({with, without}, 50, [&] { return module->forward(inputs).out; });
}

TEST(TrainTime, CrossAttentionSeesAPartOfTheContext) {
  const torch::NoGradGuard no_grad;
  auto options = stack();
  options.kind = LayersKind::cross_attender;
  options.cross_attn_tokens_dropout = 0.5;
  AttentionLayers module(options);
  AttentionLayersInputs inputs;
  inputs.x = some({1, 3, 8});
  inputs.context = some({1, 3, 8}) * 2;
  module->eval();
  std::vector<at::Tensor> expected;
  for (int64_t token = 0; token < 3; ++token) {
    auto part = inputs;
    part.context = inputs.context.narrow(1, token, 1);
    expected.push_back(module->forward(part).out);
  }
  EXPECT_FALSE(at::allclose(module->forward(inputs).out, expected[0]));
  module->train();
  constexpr int64_t kCalls = 300;
  const auto found = shares(expected, kCalls, [&] { return module->forward(inputs).out; });
  for (const auto share : found) EXPECT_NEAR(share, 1.0 / 3, tolerance(1.0 / 3, kCalls));
}

TEST(TrainTime, RecyclesAnyNumberOfTimesUpToTheMost) {
  const torch::NoGradGuard no_grad;
  TransformerWrapperOptions options;
  options.num_tokens = 16;
  options.max_seq_len = 8;
  options.attn_layers = stack();
  options.recycling = true;
  options.train_max_recycle_steps = 3;
  at::manual_seed(3);
  TransformerWrapper model(options);
  TransformerInputs inputs;
  inputs.x = at::randint(16, {1, 8}, at::kLong);
  model->eval();
  std::vector<at::Tensor> expected;
  for (int64_t steps = 1; steps <= 3; ++steps) {
    auto fixed = inputs;
    fixed.recycle_steps = steps;
    expected.push_back(model->forward(fixed).logits[0]);
  }
  model->train();
  constexpr int64_t kCalls = 300;
  const auto found = shares(expected, kCalls, [&] { return model->forward(inputs).logits[0]; });
  for (const auto share : found) EXPECT_NEAR(share, 1.0 / 3, tolerance(1.0 / 3, kCalls));
}

TEST(TrainTime, OnlyTheLastRecyclingStepHasAGradient) {
  at::manual_seed(4);
  TransformerWrapperOptions options;
  options.num_tokens = 16;
  options.max_seq_len = 8;
  options.attn_layers = stack();
  options.recycling = true;
  TransformerWrapper model(options);
  model->eval();
  model->to(at::kDouble);
  TransformerInputs inputs;
  inputs.x = at::randint(16, {1, 8}, at::kLong);
  const auto loss = [&] { return model->forward(inputs).logits[0].square().mean(); };
  const auto gamma = model->named_parameters()["attn_layers.final_norm.gamma"];
  // The derivative along the gains, of all steps, by a difference.
  const auto all_steps = [&] {
    const torch::NoGradGuard no_grad;
    constexpr double kStep = 1e-5;
    gamma.add_(kStep);
    const auto more = loss();
    gamma.sub_(2 * kStep);
    const auto less = loss();
    gamma.add_(kStep);
    return (more - less).item<double>() / (2 * kStep);
  };
  const auto recorded = [&] {
    return torch::autograd::grad({loss()}, {gamma})[0].sum().item<double>();
  };
  inputs.recycle_steps = 1;
  EXPECT_NEAR(recorded(), all_steps(), 1e-5 * std::abs(all_steps()));
  inputs.recycle_steps = 2;
  EXPECT_GT(std::abs(recorded() - all_steps()), 1e-2 * std::abs(all_steps()));
}

TEST(TrainTime, LayerDropoutLeavesMemoriesTheirPlaces) {
  auto options = stack();
  options.depth = 3;
  options.layer_dropout = 0.5;
  AttentionLayers module(options);
  AttentionLayersInputs inputs;
  inputs.x = some({2, 3, 8});
  inputs.keep_hiddens = true;
  for (int i = 0; i < 20; ++i) EXPECT_EQ(module->forward(inputs).hiddens.size(), 3);
}

/// Weights of two keys by gumbel softmax: values that show them.
at::Tensor gumbel_weights(double temperature, bool hard, double difference) {
  AttendOptions options;
  options.heads = 1;
  options.gumbel_softmax = true;
  options.gumbel_softmax_temp = temperature;
  options.gumbel_softmax_hard = hard;
  options.scale = 1.0;
  Attend module(options);
  const auto q = at::ones({kDraws, 1, 1, 1});
  const auto k =
      at::tensor({difference, 0.0}, at::kFloat).view({1, 1, 2, 1}).expand({kDraws, 1, 2, 1});
  const auto v = at::eye(2).view({1, 1, 2, 2}).expand({kDraws, 1, 2, 2});
  at::manual_seed(9);
  return module.forward(q, k, v, {}).out.squeeze(1).squeeze(1);
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// The greatest of scores with gumbel noise is drawn as the softmax of the scores says.
TEST(TrainTime, HardGumbelSoftmaxDrawsKeysAsTheSoftmaxSays) {
  constexpr double kDifference = 0.8;
  const auto weights = gumbel_weights(0.5, true, kDifference);
  EXPECT_TRUE(((weights - weights.round()).abs() < 1e-5).all().item<bool>());
  EXPECT_TRUE((weights.sum(-1) - 1).abs().max().item<double>() < 1e-5);
  const auto expected = sigmoid(kDifference);
  EXPECT_NEAR(weights.select(1, 0).mean().item<double>(), expected, tolerance(expected, kDraws));
}

// The difference of two gumbel variables is logistic, which gives the weight's distribution.
TEST(TrainTime, SoftGumbelSoftmaxDividesByTheTemperature) {
  constexpr double kDifference = 0.8;
  for (const double temperature : {0.5, 2.0}) {
    const auto weights = gumbel_weights(temperature, false, kDifference).select(1, 0);
    for (const double bound : {0.3, 0.6, 0.9}) {
      const auto expected = sigmoid(kDifference - temperature * std::log(bound / (1 - bound)));
      const auto share = (weights > bound).to(at::kDouble).mean().item<double>();
      EXPECT_NEAR(share, expected, tolerance(expected, kDraws)) << temperature << " " << bound;
    }
  }
}

TEST(TrainTime, HardWeightsHaveTheGradientOfSoftOnes) {
  for (const bool gumbel : {false, true}) {
    std::vector<at::Tensor> gradients;
    for (const bool hard : {false, true}) {
      AttendOptions options;
      options.heads = 2;
      if (gumbel) {
        options.gumbel_softmax = true;
        options.gumbel_softmax_hard = hard;
      } else {
        options.hard = hard;
      }
      Attend module(options);
      const auto q = some({2, 2, 3, 4}).requires_grad_(true);
      const auto k = some({2, 2, 5, 4}), v = some({2, 2, 5, 4});
      at::manual_seed(9);
      module.forward(q, k, v, {}).out.mul(some({2, 2, 3, 4})).sum().backward();
      gradients.push_back(q.grad());
    }
    EXPECT_TRUE(at::allclose(gradients[0], gradients[1], 1e-4, 1e-5)) << gumbel;
  }
}

}  // namespace
}  // namespace x_transformers::train_time_test
