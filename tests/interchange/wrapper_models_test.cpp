// XLAutoregressiveWrapper, NonAutoregressiveWrapper, SelfCritic and DPO as models of files.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numbers>
#include <string>

#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/generation/sequence_writer.h"
#include "x_transformers/generation/token_writer.h"
#include "x_transformers/interchange/interchange.h"
#include "x_transformers/interchange/model_cost.h"
#include "x_transformers/interchange/registry.h"
#include "x_transformers/nn/callable_module.h"

namespace x_transformers::wrapper_models_test {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;
using testing::UnorderedElementsAre;

Json net(const char* stack, const Json& more = Json::object()) {
  Json config = {{"type", "TransformerWrapper"},
                 {"num_tokens", 11},
                 {"max_seq_len", 6},
                 {"attn_layers", {{"type", stack}, {"dim", 16}, {"depth", 1}, {"heads", 2}}}};
  config.update(more);
  return config;
}

Json masked(const Json& more = Json::object()) {
  Json config = {
      {"type", "NonAutoregressiveWrapper"}, {"net", net("Encoder")}, {"mask_id", 10}, {"steps", 3}};
  config.update(more);
  return config;
}

std::vector<std::string> names_of(const TensorMap& tensors) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : tensors) names.push_back(name);
  return names;
}

TEST(WrapperModels, HaveCosts) {
  const Json configs[] = {
      {{"type", "XLAutoregressiveWrapper"}, {"net", net("Decoder")}},
      masked(),
      masked({{"self_token_critic", true}, {"self_cond", true}, {"schedule", "cosine"}}),
      {{"type", "SelfCritic"}, {"net", net("Encoder")}},
      {{"type", "BeliefStateWrapper"}, {"forward_decoder", net("Decoder")}},
      {{"type", "EntropyBasedTokenizer"}, {"decoder", net("Decoder")}, {"entropy_threshold", 1}},
      {{"type", "DPO"}, {"model", net("Decoder")}}};
  for (const auto& config : configs) {
    const auto cost = model_cost(config, "config", 6);
    EXPECT_EQ(cost.not_counted, std::nullopt) << config;
    EXPECT_GT(cost.flops.total(), 0) << config;
  }
}

TEST(WrapperModels, SayWhichOptionsTheirTokensHangOn) {
  const auto places = [](const Json& config) {
    const auto task = build_model(config)->token_task();
    return std::vector{task->counted_by.joined(), Notice{{}, task->limited_by}.line()};
  };
  using testing::ElementsAre;
  EXPECT_THAT(places({{"type", "AutoregressiveWrapper"}, {"net", net("Decoder")}}),
              ElementsAre("net.num_tokens", HasSubstr("net.max_seq_len = 6")));
  EXPECT_THAT(places({{"type", "BeliefStateWrapper"}, {"forward_decoder", net("Decoder")}}),
              ElementsAre("forward_decoder.num_tokens", HasSubstr("forward_decoder.max_seq_len")));
  EXPECT_THAT(places({{"type", "UniversalPretrainWrapper"},
                      {"model", net("Decoder")},
                      {"seq_len", 5},
                      {"seed_length", 2}}),
              ElementsAre("model.num_tokens", HasSubstr("model.max_seq_len = 6")));
}

TEST(WrapperModels, SayWhichNetSeesItsTargets) {
  const auto seeing = [](const Json& config) {
    const auto found = build_model(config)->net_that_sees_targets({});
    return std::vector{found.net.joined(), found.stack.joined()};
  };
  using testing::ElementsAre;
  EXPECT_THAT(seeing({{"type", "AutoregressiveWrapper"}, {"net", net("Decoder")}}),
              ElementsAre("", ""));
  EXPECT_THAT(seeing({{"type", "AutoregressiveWrapper"}, {"net", net("Encoder")}}),
              ElementsAre("net", "attn_layers"));
  EXPECT_THAT(seeing({{"type", "BeliefStateWrapper"},
                      {"forward_decoder", net("Decoder")},
                      {"backward_decoder", net("Encoder")}}),
              ElementsAre("backward_decoder", "attn_layers"));
  EXPECT_THAT(seeing({{"type", "FLASHAutoregressiveWrapper"},
                      {"net",
                       {{"type", "FLASHTransformer"},
                        {"num_tokens", 11},
                        {"dim", 16},
                        {"depth", 1},
                        {"causal", false}}}}),
              ElementsAre("net", ""));
}

TEST(WrapperModels, SayWhatTheirLossIs) {
  const auto unit = [](const Json& config) { return build_model(config)->loss_unit().name; };
  EXPECT_EQ(unit({{"type", "AutoregressiveWrapper"}, {"net", net("Decoder")}}), "nats per token");
  const auto is_code_length = [](const Json& config) {
    return build_model(config)->loss_unit().is_code_length;
  };
  EXPECT_TRUE(is_code_length({{"type", "AutoregressiveWrapper"}, {"net", net("Decoder")}}));
  EXPECT_FALSE(is_code_length(
      {{"type", "AutoregressiveWrapper"}, {"add_attn_z_loss", true}, {"net", net("Decoder")}}));
  EXPECT_FALSE(is_code_length(masked()));
  EXPECT_EQ(unit(masked()), "nats per masked token, weighted");
  EXPECT_EQ(unit(masked({{"use_simple_mdlm_loss_weight", false}, {"self_token_critic", true}})),
            "nats per masked token + critic");
  EXPECT_EQ(unit({{"type", "DPO"}, {"model", net("Decoder")}}), "nats per pair of answers");
  Json series = {{"type", "ContinuousTransformerWrapper"},
                 {"dim_in", 2},
                 {"dim_out", 2},
                 {"max_seq_len", 6},
                 {"attn_layers", net("Decoder")["attn_layers"]}};
  const auto of_series = [&](const Json& more) {
    Json config = {{"type", "ContinuousAutoregressiveWrapper"}, {"net", series}};
    config.update(more);
    return unit(config);
  };
  EXPECT_EQ(of_series(Json::object()), "mean square error per value");
  EXPECT_EQ(of_series({{"use_l1_loss", true}}), "mean absolute error per value");
  EXPECT_EQ(of_series({{"loss_fn", {{"type", "SmoothL1Loss"}}}}), "");
  series["probabilistic"] = true;
  EXPECT_EQ(of_series(Json::object()), "negative log-likelihood per value");
  EXPECT_EQ(unit({{"type", "Decoder"}, {"dim", 16}, {"depth", 1}}), "");
}

TEST(WrapperModels, ListsOfTypesAreOfWhatTheirClassesHave) {
  EXPECT_EQ(types_with(&ModelType::predicts_tokens),
            "XTransformer, GPTVAE, FreeTransformer, AutoregressiveWrapper, "
            "XLAutoregressiveWrapper, FLASHAutoregressiveWrapper, BeliefStateWrapper and "
            "UniversalPretrainWrapper");
  EXPECT_EQ(types_with(&ModelType::chunks_loss),
            "XTransformer, GPTVAE, AutoregressiveWrapper, XLAutoregressiveWrapper and "
            "UniversalPretrainWrapper");
}

TEST(WrapperModels, ATokenizerHasNoTrainingStep) {
  const auto cost = model_cost(
      {{"type", "EntropyBasedTokenizer"}, {"decoder", net("Decoder")}, {"entropy_threshold", 1}},
      "config", 6);
  EXPECT_THAT(cost.capture_unsupported.value_or(Notice()).line(),
              HasSubstr("nothing can be trained"));
}

TEST(MaskedModel, ReturnsItsLosses) {
  const TensorMap inputs = {{"x", at::randint(0, 10, {2, 6})}};
  EXPECT_THAT(names_of(run_model(*build_model(masked()), "forward", inputs, Json(), false)),
              UnorderedElementsAre("out.loss", "out.generator_loss"));
  const auto critic = net("Encoder", {{"logits_dim", 1}});
  const auto judged = build_model(masked({{"token_critic", critic}}));
  EXPECT_THAT(names_of(run_model(*judged, "forward", inputs, Json(), false)),
              UnorderedElementsAre("out.loss", "out.generator_loss", "out.critic_loss"));
  EXPECT_THAT(names_of(run_model(*judged, "forward", inputs, {{"only_train_critic", true}}, false)),
              UnorderedElementsAre("out.loss", "out.critic_loss"));
}

TEST(MaskedModel, WritesWholeSequences) {
  const auto model = build_model(masked());
  EXPECT_EQ(model->writer(), nullptr);
  ASSERT_NE(model->sequence_writer(), nullptr);
  const auto generate = [&](const Json& kwargs) {
    return run_model(*model, "generate", {}, kwargs, false).at("out");
  };
  EXPECT_EQ(generate({{"batch_size", 4}}).sizes(), at::IntArrayRef({4, 6}));
  EXPECT_EQ(generate({{"filter_thres", nullptr}}).sizes(), at::IntArrayRef({6}));
  const TensorMap prompts = {{"prompts", at::full({1, 2}, 3, at::kLong)}};
  EXPECT_EQ(run_model(*model, "generate", prompts, Json(), false).at("out")[1].item<int64_t>(), 3);
}

TEST(MaskedModel, TakesARegisteredSchedule) {
  register_callable("QuarterCircle", [](const ModuleSpec&, const Compat&) {
    return CallableModule{std::make_shared<torch::nn::Module>(),
                          [](const at::Tensor& x, const CallableModule::NamedTensors&) {
                            return CallableModule::Result{(1 - x.square()).sqrt(), {}};
                          }};
  });
  const TensorMap inputs = {{"x", at::randint(0, 10, {2, 6})}};
  const auto model = build_model(masked({{"schedule", "QuarterCircle"}}));
  const auto results = run_model(*model, "forward", inputs, Json(), true);
  EXPECT_TRUE(results.at("out.loss").isfinite().item<bool>());
  EXPECT_GT(results.at("out.loss").item<double>(), 0);
}

TEST(MaskedModel, ErrorsNameTheOption) {
  const auto refused = [](const Json& config, const char* what) {
    EXPECT_THAT([&] { build_model(config); }, ThrowsMessage<InputError>(HasSubstr(what))) << what;
  };
  auto missing = masked();
  missing.erase("mask_id");
  refused(missing, "config.mask_id");
  refused(masked({{"mask_id", 11}}), "config.mask_id: expected a token that the net embeds");
  refused(masked({{"schedule", "lineal"}}), "config.schedule");
  refused(masked({{"schedule", "ReLU"}}), "config.schedule: expected 0 at time 1");
  refused(masked({{"token_critic", net("Encoder")}}), "config.token_critic.logits_dim");
  refused(masked({{"token_critic", {{"type", "Encodr"}}}}), "config.token_critic.type");
  refused(masked({{"net", net("Encoder", {{"max_seq_len", 0}})}}), "config.net.max_seq_len");
  const auto model = build_model(masked());
  EXPECT_THAT(
      [&] {
        run_model(*model, "forward", {{"x", at::full({1, 6}, 11)}}, Json(), false);
      },
      ThrowsMessage<InputError>(HasSubstr("x: 11 at position [0, 0], expected 0 to 10")));
  EXPECT_THAT(
      [&] {
        run_model(*model, "generate", {}, {{"stepz", 1}}, false);
      },
      ThrowsMessage<InputError>(HasSubstr("unknown argument 'stepz'")));
}

TEST(PreferenceModel, ErrorsNameTheOption) {
  const Json config = {{"type", "DPO"}, {"model", net("Decoder")}, {"beta", -1}};
  EXPECT_THAT([&] { build_model(config); }, ThrowsMessage<InputError>(HasSubstr("config.beta")));
  const auto model = build_model({{"type", "DPO"}, {"model", net("Decoder")}});
  const auto tokens = at::zeros({2, 5}, at::kLong);
  EXPECT_THAT(
      [&] {
        run_model(*model, "forward", {{"preferred_seq", tokens}, {"unpreferred_seq", tokens}},
                  Json(), false);
      },
      ThrowsMessage<InputError>(HasSubstr("'prompt_mask' is needed")));
  EXPECT_NE(model->writer(), nullptr);
  EXPECT_FALSE(model->token_task().has_value());
}

TEST(SegmentModel, TakesWhatTheNetTakes) {
  const auto model = build_model({{"type", "XLAutoregressiveWrapper"}, {"net", net("Decoder")}});
  const TensorMap inputs = {{"x", at::randint(0, 11, {2, 15})}};
  EXPECT_EQ(run_model(*model, "forward", inputs, Json(), false).at("out").dim(), 0);
  EXPECT_THAT(
      [&] {
        run_model(*model, "forward", inputs, {{"cache_kv", true}}, false);
      },
      ThrowsMessage<InputError>(HasSubstr("unknown argument")));
  EXPECT_THAT(
      [&] {
        build_model(
            {{"type", "XLAutoregressiveWrapper"}, {"net", {{"type", "Attention"}, {"dim", 4}}}});
      },
      ThrowsMessage<InputError>(HasSubstr("config.net.type")));
  auto wrong = inputs;
  wrong["x"][1][3] = 12;
  EXPECT_THAT([&] { run_model(*model, "forward", wrong, Json(), false); },
              ThrowsMessage<InputError>(HasSubstr("x: 12 at position [1, 3]")));
}

/// A step in which it is computed again is no CUDA graph: nobody asks its options.
TEST(ModelCallables, MayDrawRandomNumbers) {
  EXPECT_TRUE(model_callable({"Attention", R"({"dim": 16, "dropout": 0.5})"}, {}).draws);
}

}  // namespace
}  // namespace x_transformers::wrapper_models_test
