// Masked training and generation: what is masked, what the losses are, what is written.
#include "x_transformers/wrappers/nonautoregressive.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <string>

#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/json_options.h"
#include "x_transformers/models/transformer_wrapper.h"

namespace x_transformers::nonautoregressive_test {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

constexpr int64_t kTokens = 9, kLength = 6, kMask = 8;

TransformerWrapper make_net(const std::string& more = "{}") {
  auto config = Json::parse(R"({"num_tokens": 9, "max_seq_len": 6, "attn_layers":
      {"type": "Encoder", "dim": 16, "depth": 1, "heads": 2, "attn_dim_head": 8}})");
  config.update(Json::parse(more));
  return TransformerWrapper(options_from_json<TransformerWrapperOptions>(config, "net"));
}

NonAutoregressiveWrapperOptions options(const std::string& json = "{}") {
  auto config = Json::parse(json);
  config["mask_id"] = kMask;
  return options_from_json<NonAutoregressiveWrapperOptions>(config, "config");
}

NonAutoregressiveWrapper make_model(const NonAutoregressiveWrapperOptions& o,
                                    const std::string& net = "{}") {
  at::manual_seed(4);
  NonAutoregressiveWrapper model(make_net(net), o);
  model->eval();
  return model;
}

at::Tensor some_tokens(int64_t batch) { return at::randint(0, kMask, {batch, kLength}); }

CallableModule critic_of(const TransformerWrapper& net) {
  return {net.ptr(), [net = net.ptr()](const at::Tensor& x, const CallableModule::NamedTensors&) {
            return CallableModule::Result{net->forward(x), {}};
          }};
}

// Masking

TEST(TokenMasking, HidesThePartOfTheScheduleAndAtLeastOne) {
  const MaskSchedule schedule{ModuleSpec{"cosine"}};
  at::manual_seed(2);
  const auto x = at::randint(0, kMask, {500, 10});
  const auto masked = mask_tokens(x, schedule, {kMask, kTokens, 0, 0});
  const auto count = masked.mask.sum(-1);
  const auto wanted = ((masked.times * (std::numbers::pi / 2)).cos() * 10).ceil().clamp_min(1);
  EXPECT_TRUE(at::equal(count, wanted.to(at::kLong)));
  EXPECT_TRUE(at::equal(masked.tokens == kMask, masked.mask));
  EXPECT_TRUE(at::equal(masked.tokens.masked_select(masked.mask.logical_not()),
                        x.masked_select(masked.mask.logical_not())));
}

TEST(TokenMasking, KeepsOrReplacesAPartInHalfOfTheCalls) {
  const MaskSchedule schedule{ModuleSpec{"linear"}};
  at::manual_seed(2);
  const auto x = at::zeros({20, 40}, at::kLong);
  int64_t kept_calls = 0, random_calls = 0;
  constexpr int64_t kCalls = 200;
  for (int64_t call = 0; call < kCalls; ++call) {
    const auto masked = mask_tokens(x, schedule, {kMask, kTokens, 0.5, 0});
    const auto stay = (masked.tokens != kMask) & masked.mask;
    kept_calls += stay.any().item<bool>();
    if (stay.any().item<bool>()) {
      EXPECT_TRUE(at::equal(stay.sum(-1), (masked.mask.sum(-1) * 0.5).ceil().to(at::kLong)));
    }
    const auto replaced = mask_tokens(x, schedule, {kMask, kTokens, 0, 0.5});
    random_calls += ((replaced.tokens != kMask) & (replaced.tokens != 0)).any().item<bool>();
    EXPECT_TRUE(
        at::equal(replaced.tokens.masked_select(replaced.mask.logical_not()).max(), x.max()));
  }
  for (const auto calls : {kept_calls, random_calls})
    EXPECT_NEAR(static_cast<double>(calls) / kCalls, 0.5, 5 * 0.5 / std::sqrt(kCalls));
}

// Losses

/// What the net says of masked tokens, in the draws of `seed`: -log p, and which tokens they are.
std::pair<at::Tensor, MaskedTokens> masked_losses(NonAutoregressiveWrapper& model,
                                                  const at::Tensor& x, int64_t seed) {
  at::manual_seed(seed);
  const auto& o = model->options();
  const auto masked = mask_tokens(x, MaskSchedule(o.schedule),
                                  {kMask, kTokens, o.no_replace_prob, o.random_token_prob});
  TransformerInputs inputs;
  inputs.x = masked.tokens;
  const auto logits = model->net()->forward(inputs).logits.at(0);
  const auto losses = at::cross_entropy_loss(logits.transpose(1, 2), x, {}, at::Reduction::None);
  return {losses * masked.mask, masked};
}

at::Tensor loss_with_seed(NonAutoregressiveWrapper& model, const at::Tensor& x, int64_t seed) {
  at::manual_seed(seed);
  return model->forward(x).loss;
}

TEST(NonAutoregressiveLoss, IsTheMeanOfMaskedTokens) {
  auto model = make_model(options(R"({"use_simple_mdlm_loss_weight": false})"));
  const auto x = some_tokens(5);
  const auto [losses, masked] = masked_losses(model, x, 6);
  EXPECT_TRUE(at::allclose(loss_with_seed(model, x, 6), losses.sum() / masked.mask.sum(), 1e-5));
}

// Its weight bounds the text's own loss, for each row has its share: |slope| times the mean.
TEST(NonAutoregressiveLoss, WeighsEachSequence) {
  for (const auto* schedule : {"linear", "cosine"}) {
    auto model = make_model(options(fmt::format(R"({{"schedule": "{}"}})", schedule)));
    const auto x = some_tokens(5);
    const auto [losses, masked] = masked_losses(model, x, 6);
    auto rows = losses.sum(-1) / masked.mask.sum(-1);
    constexpr auto kQuarter = std::numbers::pi / 2;
    if (std::string(schedule) == "cosine") rows = rows * (masked.times * kQuarter).sin() * kQuarter;
    EXPECT_TRUE(at::allclose(loss_with_seed(model, x, 6), rows.mean(), 1e-5)) << schedule;
  }
}

// With all tokens as likely the bound is exact: the loss of a text is log(tokens) a token.
TEST(NonAutoregressiveLoss, OfChanceIsThatOfTheText) {
  auto model = make_model(options(R"({"schedule": "cosine"})"));
  {
    const torch::NoGradGuard no_grad;
    for (auto& item : model->named_parameters())
      if (item.key() == "net.to_logits.weight") item.value().zero_();
  }
  const auto loss = loss_with_seed(model, some_tokens(20000), 3);
  EXPECT_NEAR(loss.item<double>(), std::log(static_cast<double>(kTokens)), 0.02);
}

/// Trains on one text that is told by any of its tokens, at a rate that falls to 0, and returns how
/// many of the masked tokens are found.
double accuracy_after(NonAutoregressiveWrapper& model, int steps) {
  constexpr double kRate = 0.006;
  constexpr int64_t kTrained = 16, kJudged = 128;
  at::manual_seed(8);
  const auto texts = [](int64_t count) {
    return (at::randint(0, kMask, {count, 1}) + at::arange(kLength)) % kMask;
  };
  for (int step = 0; step < steps; ++step) {
    model->zero_grad();
    model->forward(texts(kTrained)).loss.backward();
    const torch::NoGradGuard no_grad;
    const double rate = kRate * (1 - static_cast<double>(step) / steps);
    for (auto& parameter : model->parameters()) {
      if (parameter.grad().defined())
        parameter.sub_(parameter.grad() / (parameter.grad().square().mean().sqrt() + 1e-8), rate);
    }
  }
  const auto x = texts(kJudged);
  TransformerInputs inputs;
  const auto is_masked = at::arange(kLength) % 2 == 1;
  inputs.x = x.masked_fill(is_masked, kMask);
  if (model->options().self_cond) {
    const auto own = model->named_parameters();
    inputs.sum_embeds = at::linear(own["null_embed"], own["to_self_cond.weight"]);
  }
  const auto found = model->net()->forward(inputs).logits.at(0).argmax(-1) == x;
  return (found & is_masked).sum().item<double>() / (kJudged * kLength / 2.0);
}

// Python's wrapper needs as many steps for this text without its weight: after 120 it finds half of
// the tokens, after 300 nine of ten.
TEST(NonAutoregressiveLoss, WithItsDefaultsTeachesToFindMaskedTokens) {
  auto model = make_model(options());
  EXPECT_GT(loss_with_seed(model, some_tokens(4), 1).item<double>(), 0);
  EXPECT_GT(accuracy_after(model, 300), 0.95);
  // Python's weight is negative: training unlearns.
  auto o = options();
  o.compat.python_quirks = true;
  auto quirky = make_model(o);
  EXPECT_LT(loss_with_seed(quirky, some_tokens(4), 1).item<double>(), 0);
  EXPECT_LT(accuracy_after(quirky, 60), 0.3);
}

TEST(NonAutoregressiveLoss, WithoutItsWeightTeachesToFindMaskedTokens) {
  auto model = make_model(options(R"({"use_simple_mdlm_loss_weight": false})"));
  EXPECT_GT(accuracy_after(model, 300), 0.95);
}

// The net sees what it made of the tokens in most of its steps, so that it needs more of them.
TEST(NonAutoregressiveLoss, TeachesWithSelfConditioningAndCritic) {
  auto model = make_model(options(R"({"self_cond": true, "self_token_critic": true})"));
  EXPECT_GT(accuracy_after(model, 500), 0.9);
}

TEST(NonAutoregressiveLoss, IsWhatIsTrained) {
  auto model = make_model(options(R"({"self_token_critic": true, "critic_loss_weight": 0.3})"));
  NonAutoregressiveInputs inputs;
  inputs.x = some_tokens(3);
  const auto both = model->forward(inputs);
  EXPECT_TRUE(at::allclose(both.loss, both.generator_loss + both.critic_loss * 0.3));
  inputs.only_train_critic = true;
  const auto critic = model->forward(inputs);
  EXPECT_FALSE(critic.generator_loss.defined());
  EXPECT_TRUE(at::equal(critic.loss, critic.critic_loss));
  inputs.only_train_critic = false;
  inputs.only_train_generator = true;
  const auto generator = model->forward(inputs);
  EXPECT_FALSE(generator.critic_loss.defined());
  EXPECT_TRUE(at::equal(generator.loss, generator.generator_loss));
}

TEST(NonAutoregressiveLoss, AScheduleOfOnesOwn) {
  auto o = options();
  auto own = o;
  own.schedule = [](const at::Tensor& times) { return (times * (std::numbers::pi / 2)).cos(); };
  o.schedule = ModuleSpec{"cosine"};
  auto named = make_model(o), given = make_model(own);
  const auto x = some_tokens(4);
  EXPECT_TRUE(at::allclose(loss_with_seed(named, x, 6), loss_with_seed(given, x, 6), 1e-5));
  NonAutoregressiveGeneration generation;
  generation.seed = 5;
  EXPECT_TRUE(at::equal(named->generate(generation), given->generate(generation)));
}

// A context reaches the critic that shares the net; in Python it fails there.
TEST(NonAutoregressiveLoss, ACriticSeesTheContext) {
  auto model = make_model(options(R"({"self_token_critic": true})"), R"({"attn_layers":
      {"type": "Encoder", "dim": 16, "depth": 1, "heads": 2, "cross_attend": true}})");
  NonAutoregressiveInputs inputs;
  inputs.x = some_tokens(2);
  inputs.net.layers.context = at::randn({2, 3, 16});
  EXPECT_TRUE(model->forward(inputs).loss.isfinite().item<bool>());
}

// So do the ids of further embeddings, without which the net cannot be called.
TEST(NonAutoregressiveLoss, ACriticSeesFurtherEmbeddings) {
  auto model =
      make_model(options(R"({"self_token_critic": true})"), R"({"embed_num_tokens": {"part": 3}})");
  NonAutoregressiveInputs inputs;
  inputs.x = some_tokens(2);
  const auto loss = [&](int64_t part) {
    at::manual_seed(3);
    inputs.net.embed_ids["part"] = at::full({2, kLength}, part, at::kLong);
    return model->forward(inputs).critic_loss;
  };
  EXPECT_FALSE(at::equal(loss(0), loss(2)));
}

// Generation

NonAutoregressiveGeneration drawing(int64_t batch, int64_t seed) {
  NonAutoregressiveGeneration generation;
  generation.batch_size = batch;
  generation.filter_thres = std::nullopt;
  generation.start_temperature = 3;
  generation.seed = seed;
  return generation;
}

TEST(NonAutoregressiveGeneration, NeverWritesTheMask) {
  for (const auto* more : {R"({"steps": 4})", R"({"steps": 3, "self_token_critic": true})",
                           R"({"steps": 3, "can_mask_prev_unmasked": true})"}) {
    auto o = options(more);
    auto model = make_model(o);
    EXPECT_FALSE((model->generate(drawing(60, 1)) == kMask).any().item<bool>()) << more;
    o.compat.python_quirks = true;
    EXPECT_TRUE((make_model(o)->generate(drawing(60, 1)) == kMask).any().item<bool>()) << more;
  }
}

TEST(NonAutoregressiveGeneration, HangsOnTheSeedAlone) {
  auto model = make_model(options(R"({"steps": 4})"));
  EXPECT_TRUE(at::equal(model->generate(drawing(4, 1)), model->generate(drawing(4, 1))));
  EXPECT_FALSE(at::equal(model->generate(drawing(4, 1)), model->generate(drawing(4, 2))));
  EXPECT_EQ(model->generate({}).sizes(), at::IntArrayRef({kLength}));
}

TEST(NonAutoregressiveGeneration, PromptsStay) {
  auto model = make_model(options(R"({"steps": 5, "can_mask_prev_unmasked": true})"));
  for (const int64_t count : {int64_t{1}, int64_t{4}, kLength}) {
    auto generation = drawing(3, 1);
    generation.prompts = at::randint(0, kMask, {3, count});
    const auto out = model->generate(generation);
    EXPECT_TRUE(at::equal(out.narrow(1, 0, count), generation.prompts));
    EXPECT_FALSE((out == kMask).any().item<bool>());
  }
}

// One step writes all tokens at once, the most probable ones at filter 1.
TEST(NonAutoregressiveGeneration, InOneStepIsTheNetsChoice) {
  auto model = make_model(options(R"({"steps": 1})"));
  auto generation = drawing(1, 1);
  generation.filter_thres = 0.9;
  TransformerInputs inputs;
  inputs.x = at::full({1, kLength}, kMask, at::kLong);
  const auto choice = model->net()->forward(inputs).logits.at(0).narrow(-1, 0, kMask).argmax(-1);
  EXPECT_TRUE(at::equal(model->generate(generation), choice));
  SequenceRequest request;
  request.top_k = 1;
  EXPECT_TRUE(at::equal(model->write(choice.narrow(1, 0, 2), request).narrow(1, 0, 2),
                        choice.narrow(1, 0, 2)));
}

TEST(NonAutoregressiveErrors, NameWhatIsWrong) {
  const auto refused = [](const NonAutoregressiveWrapperOptions& o, const char* what,
                          const std::string& net = "{}") {
    EXPECT_THAT([&] { make_model(o, net); }, ThrowsMessage<InputError>(HasSubstr(what))) << what;
  };
  auto o = options();
  o.mask_id = kTokens;
  refused(o, "mask_id: expected a token that the net embeds, 0 to 8, got 9");
  refused(options(R"({"steps": 0})"), "steps");
  refused(options(R"({"no_replace_prob": 1.5})"), "no_replace_prob");
  refused(options(R"({"schedule": "quadratic"})"), "schedule");
  refused(options(R"({"self_cond": true})"), "emb_dim", R"({"emb_dim": 12})");
  refused(options(), "max_seq_len", R"({"max_seq_len": 0})");
  auto own = options();
  own.schedule = [](const at::Tensor& times) { return 1 - times * 0.5; };
  refused(own, "schedule: expected 0 at time 1");
  own.schedule = [](const at::Tensor& times) { return 2 - times * 2; };
  refused(own, "schedule: expected values from 0 to 1");
}

TEST(NonAutoregressiveErrors, OfCalls) {
  auto model = make_model(options());
  EXPECT_THAT(
      [&] {
        model->forward(at::zeros({2, 5}, at::kLong));
      },
      ThrowsMessage<InputError>(HasSubstr("max_seq_len = 6")));
  NonAutoregressiveInputs inputs;
  inputs.x = some_tokens(2);
  inputs.only_train_critic = true;
  EXPECT_THAT([&] { model->forward(inputs); }, ThrowsMessage<InputError>(HasSubstr("needs")));
  auto generation = drawing(2, 1);
  generation.filter_thres = 1;
  EXPECT_THAT([&] { model->generate(generation); },
              ThrowsMessage<InputError>(HasSubstr("filter_thres")));
  NonAutoregressiveWrapper judged(make_net(), options(), critic_of(make_net()));
  EXPECT_THAT([&] { judged->forward(some_tokens(2)); },
              ThrowsMessage<InputError>(HasSubstr("logits_dim 1")));
  EXPECT_THAT(
      [] {
        NonAutoregressiveWrapper(make_net(), options(R"({"self_token_critic": true})"),
                                 critic_of(make_net()));
      },
      ThrowsMessage<InputError>(HasSubstr("token_critic")));
}

}  // namespace
}  // namespace x_transformers::nonautoregressive_test
