// Sequences that are computed, and learnt from.
#include "x_transformers/wrappers/universal_pretrain.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "small_net.h"
#include "x_transformers/core/error.h"

namespace x_transformers::universal_pretrain_test {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

UniversalPretrainWrapperOptions options() {
  UniversalPretrainWrapperOptions options;
  options.batch_size = 3;
  options.buffer_size = 8;
  options.num_reset = 2;
  options.seq_len = 10;
  options.seed_length = 3;
  return options;
}

UniversalPretrainWrapper make(const UniversalPretrainWrapperOptions& options) {
  at::manual_seed(3);
  return UniversalPretrainWrapper(small_net().ptr(), options);
}

/// How many sequences of the buffer a step has changed.
int64_t changed(UniversalPretrainWrapper& model) {
  const auto before = model->buffer().clone();
  model->forward();
  return model->buffer().ne(before).any(1).sum().item<int64_t>();
}

TEST(UniversalPretrain, ComputedSequencesEnterTheBuffer) {
  auto given = options();
  given.num_reset = 0;
  auto model = make(given);
  const auto count = changed(model);
  EXPECT_GT(count, 0);
  EXPECT_LE(count, 3);
  given.compat.python_quirks = true;
  auto python = make(given);
  EXPECT_EQ(changed(python), 0);
}

TEST(UniversalPretrain, TheBufferIsOfNoiseAndConstants) {
  const auto model = make(options());
  const auto& buffer = model->buffer();
  EXPECT_EQ(buffer.sizes(), at::IntArrayRef({8, 10}));
  const auto is_constant = buffer.eq(buffer.narrow(1, 0, 1)).all(1);
  EXPECT_EQ(is_constant.sum().item<int64_t>(), 4);
}

TEST(UniversalPretrain, OnlyTheModelLearns) {
  auto model = make(options());
  model->forward().backward();
  EXPECT_TRUE(model->named_parameters()["model.token_emb.emb.weight"].grad().defined());
  EXPECT_FALSE(model->named_parameters()["data_generator.to_logits.weight"].grad().defined());
}

TEST(UniversalPretrain, TheGeneratorBecomesAnother) {
  auto given = options();
  given.reset_turing_machine_every = 2;
  auto model = make(given);
  const auto weight = model->data_generator()->named_parameters()["net.weight_hh_l0"];
  const auto before = weight.detach().clone();
  model->forward();
  EXPECT_TRUE(at::equal(weight, before));
  model->forward();
  EXPECT_FALSE(at::equal(weight, before));
}

TEST(UniversalPretrain, ABufferOnTheHostIsNotSaved) {
  auto given = options();
  given.keep_buffer_on_cpu = true;
  EXPECT_FALSE(make(given)->named_buffers().contains("synth_data_buffer"));
  EXPECT_TRUE(make(options())->named_buffers().contains("synth_data_buffer"));
}

TEST(UniversalPretrain, Refuses) {
  const auto refused = [](auto change, const char* message) {
    auto given = options();
    change(given);
    EXPECT_THAT([&] { make(given); }, ThrowsMessage<InputError>(HasSubstr(message)));
  };
  refused([](auto& o) { o.buffer_size = 3; }, "buffer_size: expected more than batch_size = 3");
  refused([](auto& o) { o.num_reset = 3; }, "num_reset: expected an even number");
  refused([](auto& o) { o.num_reset = 10; }, "num_reset: expected at most buffer_size = 8");
  refused([](auto& o) { o.seed_length = 10; }, "seed_length: expected less than seq_len = 10");
  refused([](auto& o) { o.seq_len = 17; }, "seq_len: expected at most model.max_seq_len = 16");
  EXPECT_THAT([] { UniversalPretrainWrapper(small_net(LayersKind::encoder).ptr(), options()); },
              ThrowsMessage<InputError>(HasSubstr("model: needs to be causal")));
}

TEST(SyntheticData, OneStepAfterTheOtherIsTheWhole) {
  const torch::NoGradGuard no_grad;
  const ModuleSpec networks[] = {
      {"LSTM"}, {"GRU"}, {"RNN"}, {"LSTM", R"({"num_layers": 2})"}, {"GRU", R"({"bias": false})"}};
  for (const auto& network : networks) {
    SyntheticDataGeneratorOptions given;
    given.dim = 6;
    given.hidden_size = 5;
    given.num_tokens = 9;
    given.network_klass = network;
    SyntheticDataGenerator generator(given);
    const auto input = random_tokens(2, 7, 9);
    const auto whole = generator->forward(input).logits;
    const auto first = generator->forward(input.narrow(1, 0, 4));
    const auto rest = generator->forward(input.narrow(1, 4, 3), first.hiddens).logits;
    EXPECT_TRUE(at::allclose(at::cat({first.logits, rest}, 1), whole, 1e-5, 1e-6))
        << network.type << network.arguments;
  }
}

TEST(SyntheticData, RefusesAStateOfOtherTensors) {
  for (const auto& [network, message] :
       {std::pair("LSTM", "hiddens: expected 2 tensors, the state, got 3"),
        std::pair("GRU", "hiddens: expected 1 tensor, the state, got 3")}) {
    SyntheticDataGeneratorOptions given;
    given.dim = 6;
    given.num_tokens = 9;
    given.network_klass = ModuleSpec{network};
    SyntheticDataGenerator generator(given);
    const std::vector<at::Tensor> state(3, at::zeros({1, 2, 6}));
    EXPECT_THAT([&] { generator->forward(random_tokens(2, 7, 9), state); },
                ThrowsMessage<InputError>(HasSubstr(message)));
  }
}

TEST(SyntheticData, KeepsTheLastTokens) {
  SyntheticDataGeneratorOptions given;
  given.dim = 6;
  given.num_tokens = 9;
  given.max_seq_len = 8;
  SyntheticDataGenerator generator(given);
  const auto seed = random_tokens(2, 3, 9), condition = random_tokens(2, 4, 9);
  EXPECT_EQ(generator->generate(6, seed, condition).size(1), 8);
  const auto all = generator->generate(1, seed, condition);
  EXPECT_TRUE(at::equal(all.narrow(1, 0, 7), at::cat({seed, condition}, 1)));
  EXPECT_THROW(generator->generate(3, {}, {}), InputError);
}

}  // namespace
}  // namespace x_transformers::universal_pretrain_test
