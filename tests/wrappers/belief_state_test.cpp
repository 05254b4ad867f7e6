// What prefixes and suffixes predict.
#include "x_transformers/wrappers/belief_state.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "small_net.h"
#include "x_transformers/core/error.h"

namespace x_transformers::belief_state_test {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

BeliefStateWrapper make(BeliefStateWrapperOptions options = {}) {
  at::manual_seed(2);
  return BeliefStateWrapper(small_net().ptr(), small_net().ptr(), options);
}

BeliefStateWrapperOptions told(bool python_quirks) {
  BeliefStateWrapperOptions options;
  options.cond_on_distance = true;
  options.cond_on_distance_prob = 1 - 1e-9;
  options.compat.python_quirks = python_quirks;
  return options;
}

bool condition_learns(const BeliefStateWrapperOptions& options) {
  auto model = make(options);
  model->forward(random_tokens(2, 6)).backward();
  return model->named_parameters()["to_distance_cond.3.weight"].grad().defined();
}

TEST(BeliefState, TheDistanceCountsAndItsParametersLearn) {
  EXPECT_TRUE(condition_learns(told(false)));
  EXPECT_FALSE(condition_learns(told(true)));
}

TEST(BeliefState, WeightsOfPairsCountWithoutWeightsOfDirections) {
  const torch::NoGradGuard no_grad;
  const auto seq = random_tokens(2, 6);
  const PairWeights twice = [](const at::Tensor& pairs) { return at::full({pairs.size(0)}, 2.0); };
  auto model = make();
  const auto loss = model->forward(seq).item<double>();
  EXPECT_NEAR(model->forward(seq, {}, twice).item<double>(), 2 * loss, 1e-5);
  BeliefStateWrapperOptions options;
  options.compat.python_quirks = true;
  EXPECT_NEAR(make(options)->forward(seq, {}, twice).item<double>(), loss, 1e-6);
  const PairWeights next_alone = [](const at::Tensor& pairs) {
    return at::stack({at::ones({pairs.size(0)}), at::zeros({pairs.size(0)})}, 1);
  };
  const PairWeights previous_alone = [&](const at::Tensor& pairs) { return 1 - next_alone(pairs); };
  EXPECT_NEAR(model->forward(seq, {}, next_alone).item<double>() +
                  model->forward(seq, {}, previous_alone).item<double>(),
              loss, 1e-5);
}

TEST(BeliefState, APairSeesItsPrefixAndItsSuffixAlone) {
  const torch::NoGradGuard no_grad;
  auto model = make();
  // Tokens up to 1 and from 5 on, which predict 2 and 4.
  const PairWeights one_pair = [](const at::Tensor& pairs) {
    return ((pairs.select(1, 0) == 1) & (pairs.select(1, 1) == 5)).to(at::kFloat);
  };
  const auto seq = random_tokens(1, 7);
  const auto loss_with = [&](int64_t place) {
    auto changed = seq.clone();
    changed.select(1, place).add_(1).remainder_(kSmallVocabulary);
    return model->forward(changed, {}, one_pair).item<double>();
  };
  const auto loss = model->forward(seq, {}, one_pair).item<double>();
  EXPECT_NEAR(loss_with(3), loss, 1e-6);
  for (const int64_t place : {0, 1, 2, 4, 5, 6}) EXPECT_NE(loss_with(place), loss) << place;
}

GenerateOptions greedy(int64_t seq_len) {
  GenerateOptions options;
  options.seq_len = seq_len;
  options.temperature = 0;
  return options;
}

TEST(BeliefState, CachedGenerationEqualsUncached) {
  auto model = make();
  SuffixGenerationInputs inputs;
  inputs.prompts = random_tokens(3, 4);
  inputs.suffix = random_tokens(3, 2);
  const auto uncached = model->generate_with_suffix_cond(inputs, greedy(10));
  inputs.cache_kv = true;
  EXPECT_TRUE(at::equal(model->generate_with_suffix_cond(inputs, greedy(10)), uncached));
  inputs.prompts = inputs.prompts[1];
  inputs.suffix = inputs.suffix[1];
  EXPECT_TRUE(at::equal(model->generate_with_suffix_cond(inputs, greedy(10)), uncached[1]));
}

TEST(BeliefState, WritesWhatGenerationWithoutASuffixDoes) {
  const torch::NoGradGuard no_grad;
  auto model = make();
  SuffixGenerationInputs inputs;
  inputs.prompts = random_tokens(2, 4);
  model->eval();
  const auto session = model->start_session({6});
  EXPECT_TRUE(at::equal(generate(*session, inputs.prompts, greedy(6)),
                        model->generate_with_suffix_cond(inputs, greedy(6))));
}

TEST(BeliefState, SeesAllTokensWhereNoTableOfPositionsEnds) {
  const auto generated = [](int64_t max_seq_len) {
    auto options = small_net_options();
    options.max_seq_len = max_seq_len;
    options.use_abs_pos_emb = false;
    options.attn_layers.rotary_pos_emb = true;
    at::manual_seed(2);
    BeliefStateWrapper model(TransformerWrapper(options).ptr(), TransformerWrapper(options).ptr());
    SuffixGenerationInputs inputs;
    inputs.prompts = random_tokens(2, 4);
    return model->generate_with_suffix_cond(inputs, greedy(10));
  };
  EXPECT_TRUE(at::equal(generated(6), generated(64)));
}

TEST(BeliefState, GeneratesBackwards) {
  auto model = make();
  SuffixGenerationInputs inputs;
  inputs.prompts = random_tokens(2, 4);
  inputs.decode_backwards = true;
  at::manual_seed(5);
  const auto uncached = model->generate_with_suffix_cond(inputs, greedy(5));
  EXPECT_EQ(uncached.sizes(), at::IntArrayRef({2, 5}));
  inputs.cache_kv = true;
  at::manual_seed(5);
  EXPECT_TRUE(at::equal(model->generate_with_suffix_cond(inputs, greedy(5)), uncached));
}

TEST(BeliefState, Refuses) {
  BeliefStateWrapperOptions options;
  options.train_frac_forward_backward_pairs = 0;
  EXPECT_THAT([&] { make(options); },
              ThrowsMessage<InputError>(HasSubstr("train_frac_forward_backward_pairs")));
  options = {};
  options.cond_on_distance_prob = 1;
  EXPECT_THAT([&] { make(options); },
              ThrowsMessage<InputError>(HasSubstr("cond_on_distance_prob")));
  auto other = small_net_options();
  other.num_tokens = 7;
  EXPECT_THAT([&] { BeliefStateWrapper(small_net().ptr(), TransformerWrapper(other).ptr()); },
              ThrowsMessage<InputError>(
                  "backward_decoder.num_tokens: expected that of forward_decoder, 13, got 7"));
  auto model = make();
  EXPECT_THROW(model->forward(random_tokens(2, 1)), InputError);
  EXPECT_THROW(model->forward(random_tokens(2, 4), at::tensor({3})), InputError);
  EXPECT_THAT(
      [&] {
        model->forward(random_tokens(2, 4), at::tensor({5, 3}));
      },
      ThrowsMessage<InputError>("lens: expected lengths of 0 to 4, got 5"));
  EXPECT_THAT(
      [&] {
        model->forward(random_tokens(2, 4), {}, [](const at::Tensor&) { return at::ones({3}); });
      },
      ThrowsMessage<InputError>(HasSubstr("loss_weight_by_fb_indices")));
}

}  // namespace
}  // namespace x_transformers::belief_state_test
