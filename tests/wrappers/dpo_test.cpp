// Preference training against its definition.
#include "x_transformers/wrappers/dpo.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <string>

#include "warnings.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/json_options.h"

namespace x_transformers::dpo_test {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

TransformerWrapper make_net(const std::string& more = "{}") {
  auto config = Json::parse(R"({"num_tokens": 19, "max_seq_len": 8, "attn_layers":
      {"type": "Decoder", "dim": 16, "depth": 1, "heads": 2, "attn_dim_head": 8}})");
  config.update(Json::parse(more));
  at::manual_seed(3);
  return TransformerWrapper(options_from_json<TransformerWrapperOptions>(config, "model"));
}

DPO make_model(const std::string& net = "{}", DPOOptions options = {}) {
  return DPO(make_net(net), options);
}

/// Moves the policy off the reference.
void move_policy(DPO& model) {
  const torch::NoGradGuard no_grad;
  at::manual_seed(5);
  for (auto& parameter : model->parameters()) parameter.add_(at::randn_like(parameter) * 0.3);
}

DPOInputs make_pair(const at::Tensor& prompt_mask) {
  at::manual_seed(9);
  DPOInputs inputs;
  inputs.preferred_seq = at::randint(0, 19, {2, 8});
  inputs.unpreferred_seq = at::randint(0, 19, {2, 8});
  inputs.prompt_mask = prompt_mask;
  return inputs;
}

at::Tensor first(int64_t count) { return (at::arange(8) < count).unsqueeze(0).expand({2, 8}); }

/// Mean log-probability of tokens `begin` and later of row r.
double answer(TokenModel& net, const at::Tensor& seq, int64_t row, int64_t begin) {
  TransformerInputs inputs;
  inputs.x = seq;
  const auto log_probs = net.forward(inputs).logits.at(0).log_softmax(-1);
  double sum = 0;
  for (int64_t i = begin; i < seq.size(1); ++i)
    sum += log_probs[row][i - 1][seq[row][i].item<int64_t>()].item<double>();
  return sum / static_cast<double>(seq.size(1) - begin);
}

TEST(DPOLoss, IsItsDefinition) {
  auto model = make_model("{}", {.beta = 0.4});
  move_policy(model);
  const auto inputs = make_pair(first(3));
  double expected = 0;
  for (int64_t row = 0; row < 2; ++row) {
    const auto gain = [&](const at::Tensor& seq) {
      return answer(*model->policy_model(), seq, row, 3) - answer(*model->ref_model(), seq, row, 3);
    };
    const auto advantage = gain(inputs.preferred_seq) - gain(inputs.unpreferred_seq);
    expected += std::log1p(std::exp(-0.4 * advantage)) / 2;
  }
  EXPECT_NEAR(model->forward(inputs).item<double>(), expected, 1e-5);
}

TEST(DPOLoss, BeginsAtLogTwo) {
  auto model = make_model();
  EXPECT_NEAR(model->forward(make_pair(first(3))).item<double>(), std::numbers::ln2, 1e-6);
}

// In Python an answer of one token gives ln 2 and no gradient, as its mask is one off.
TEST(DPOLoss, TheFirstAnswerTokenCounts) {
  for (const bool python_quirks : {false, true}) {
    DPOOptions options;
    options.compat.python_quirks = python_quirks;
    auto model = make_model("{}", options);
    move_policy(model);
    const auto loss = model->forward(make_pair(first(7)));
    loss.backward();
    double gradient = 0;
    for (const auto& parameter : model->parameters()) {
      if (parameter.grad().defined()) gradient += parameter.grad().abs().sum().item<double>();
    }
    EXPECT_EQ(std::abs(loss.item<double>() - std::numbers::ln2) < 1e-6 && gradient < 1e-6,
              python_quirks);
  }
}

TEST(DPOLoss, PaddingDoesNotCount) {
  auto model = make_model("{}", {.pad_id = 0});
  move_policy(model);
  auto inputs = make_pair(first(3));
  for (auto* seq : {&inputs.preferred_seq, &inputs.unpreferred_seq}) {
    *seq = seq->clamp_min(1);
    seq->narrow(1, 6, 2).fill_(0);
  }
  auto shorter = inputs;
  for (auto* t : {&shorter.preferred_seq, &shorter.unpreferred_seq, &shorter.prompt_mask})
    *t = t->narrow(1, 0, 6);
  EXPECT_NEAR(model->forward(inputs).item<double>(), model->forward(shorter).item<double>(), 1e-6);
}

TEST(DPOReference, StaysAsItWas) {
  auto model = make_model(R"({"emb_dropout": 0.5})");
  model->train();
  EXPECT_TRUE(model->policy_model()->is_training());
  EXPECT_FALSE(model->ref_model()->is_training());
  EXPECT_EQ(model->parameters().size(), model->policy_model()->parameters().size());
  const auto before = model->ref_model()->parameters();
  std::vector<at::Tensor> copies;
  for (const auto& parameter : before) {
    EXPECT_FALSE(parameter.requires_grad());
    copies.push_back(parameter.clone());
  }
  move_policy(model);
  model->forward(make_pair(first(3))).backward();
  for (size_t i = 0; i < before.size(); ++i) {
    EXPECT_FALSE(before[i].grad().defined());
    EXPECT_TRUE(at::equal(before[i], copies[i]));
  }
}

// Python's copy makes its logits with the policy's table, so that the reference moves with it.
TEST(DPOReference, HasATableOfItsOwn) {
  auto model = make_model(R"({"tie_embedding": true})");
  const auto inputs = make_pair(first(3));
  TransformerInputs call;
  call.x = inputs.preferred_seq;
  const auto before = model->ref_model()->forward(call).logits.at(0);
  move_policy(model);
  EXPECT_TRUE(at::equal(model->ref_model()->forward(call).logits.at(0), before));
}

// With the quirk the table is the policy's, and nothing else of the head is.
TEST(DPOReference, OfPythonHasAMixtureOfItsOwn) {
  const std::string net = R"({"tie_embedding": true, "mixture_of_softmax": true})";
  DPOOptions options;
  options.compat.python_quirks = true;
  auto model = make_model(net, options);
  move_policy(model);
  {
    const torch::NoGradGuard no_grad;
    for (auto& parameter : model->ref_model()->parameters()) parameter.mul_(1.5);
  }
  const auto inputs = make_pair(first(3));
  const auto table = [](TokenModel& of) { return of.named_parameters()["token_emb.emb.weight"]; };
  const auto log_probs = [&](TokenModel& of, const at::Tensor& seq, bool is_reference) {
    const torch::NoGradGuard no_grad;
    TransformerInputs call;
    call.x = seq.narrow(1, 0, 7);
    call.logits = false;
    const auto embeddings = of.forward(call).embeddings;
    const auto own = table(of).clone();
    if (is_reference) table(of).copy_(table(*model->policy_model()));
    const auto logits = of.head(embeddings);
    table(of).copy_(own);
    return logits.log_softmax(-1).gather(2, seq.narrow(1, 1, 7).unsqueeze(-1)).squeeze(-1);
  };
  const auto gain = [&](const at::Tensor& seq) {
    const auto policy = log_probs(*model->policy_model(), seq, false);
    const auto reference = log_probs(*model->ref_model(), seq, true);
    return (policy - reference).narrow(1, 3, 4).mean(1);  // as in Python, one off
  };
  const auto advantage = gain(inputs.preferred_seq) - gain(inputs.unpreferred_seq);
  EXPECT_NEAR(model->forward(inputs).item<double>(),
              -at::log_sigmoid(0.1 * advantage).mean().item<double>(), 1e-5);
}

TEST(DPOLoss, LearnsThePreference) {
  auto model = make_model();
  const auto inputs = make_pair(first(3));
  const auto before = model->forward(inputs).item<double>();
  for (int step = 0; step < 30; ++step) {
    for (auto& parameter : model->parameters()) parameter.mutable_grad() = at::Tensor();
    model->forward(inputs).backward();
    const torch::NoGradGuard no_grad;
    for (auto& parameter : model->parameters()) {
      if (parameter.grad().defined()) parameter.sub_(parameter.grad(), 2);
    }
  }
  EXPECT_LT(model->forward(inputs).item<double>(), before - 0.1);
}

TEST(DPOErrors, NameWhatIsWrong) {
  EXPECT_THAT([] { make_model("{}", {.beta = 0}); }, ThrowsMessage<InputError>(HasSubstr("beta")));
  auto model = make_model();
  auto inputs = make_pair(first(3));
  inputs.unpreferred_seq = inputs.unpreferred_seq.narrow(1, 0, 7);
  EXPECT_THAT([&] { model->forward(inputs); },
              ThrowsMessage<InputError>(HasSubstr("unpreferred_seq")));
  inputs = make_pair(first(3).narrow(1, 0, 5));
  EXPECT_THAT([&] { model->forward(inputs); }, ThrowsMessage<InputError>(HasSubstr("prompt_mask")));
  inputs.prompt_mask = at::Tensor();
  EXPECT_THAT([&] { model->forward(inputs); }, ThrowsMessage<InputError>(HasSubstr("prompt_mask")));
}

TEST(DPO, SaysThatAPaddingTokenOutsideTheVocabularyHidesNothing) {
  const CollectedWarnings warnings;
  DPOOptions options;
  options.pad_id = -1;
  make_model("{}", options);
  EXPECT_THAT(warnings.messages(), testing::Contains(HasSubstr("pad_id: -1 is no token")));
}

TEST(DPO, RefusesABatchOfNothing) {
  auto model = make_model();
  DPOInputs inputs;
  inputs.preferred_seq = inputs.unpreferred_seq = at::zeros({0, 5}, at::kLong);
  inputs.prompt_mask = at::zeros({0, 5}, at::kBool);
  EXPECT_THAT([&] { model->forward(inputs); },
              ThrowsMessage<InputError>(HasSubstr("at least one pair")));
}

}  // namespace
}  // namespace x_transformers::dpo_test
