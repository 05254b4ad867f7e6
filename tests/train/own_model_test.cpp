// A class that the library has never heard of is built from JSON, called, trained, resumed, costed
// and measured: with one header, one source and one registration (toy_model.h).
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "temporary_folder.h"
#include "train/toy_model.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/core/option_help.h"
#include "x_transformers/interchange/interchange.h"
#include "x_transformers/interchange/model_cost.h"
#include "x_transformers/interchange/option_cost.h"
#include "x_transformers/io/safetensors.h"
#include "x_transformers/train/language_model.h"
#include "x_transformers/train/measure_step.h"
#include "x_transformers/train/train_model.h"

namespace x_transformers {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

const Json kToy = {{"type", "Toy"}, {"dim", 3}, {"squared", true}};

class OwnModel : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    static const bool once = (toy::register_toy(), true);
    (void)once;
  }

  void SetUp() override {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    root_ = fs::path(temporary_folder()) / (std::string("own_model_") + info->name());
    fs::create_directories(root_);
    at::manual_seed(1);
    const auto x = at::randn({64, 4, 3});
    save_safetensors(root_ / "data.safetensors", {{"x", x}, {"target", x.sum(-1).square()}});
  }

  Json run_file(int64_t steps) const {
    return {{"model", kToy},
            {"data",
             {{"path", (root_ / "data.safetensors").string()},
              {"format", "tensors"},
              {"batch_size", 8}}},
            {"train",
             {{"steps", steps},
              {"schedule", "constant"},
              {"warmup_steps", 0},
              {"learning_rate", 0.02},
              {"log_every", 1},
              {"eval_every", 5},
              {"tensorboard", false},
              {"plot", false},
              {"progress", "none"}}}};
  }

  TrainResult train(int64_t steps, const char* folder, bool resume = false) const {
    const auto run = parse_run_options(run_file(steps), "run.json");
    at::manual_seed(0);
    return train_model(run, root_ / folder, resume, {.random = process_generators()});
  }

  fs::path root_;
};

TEST_F(OwnModel, IsBuiltFromJsonAndCalled) {
  const auto model = build_model(kToy);
  const auto out = run_model(*model, "forward", {{"x", at::ones({2, 5, 3})}}, Json::object(), true);
  EXPECT_EQ(out.at("out").sizes(), at::IntArrayRef({2, 5}));
  EXPECT_EQ(out.at("grad.in.weight").sizes(), at::IntArrayRef({8, 3}));
  EXPECT_THAT(
      [] {
        build_model({{"type", "Toy"}, {"dim", 3}, {"hiden", 4}}, "toy.json");
      },
      ThrowsMessage<InputError>(HasSubstr("the nearest known one is 'hidden'")));
  EXPECT_THAT(model_types(), testing::Contains("Toy"));
  EXPECT_EQ(model_options("Toy").size(), 3u);
  EXPECT_EQ(spell_out(kToy), (Json{{"type", "Toy"}, {"dim", 3}, {"hidden", 8}, {"squared", true}}));
}

TEST_F(OwnModel, Learns) {
  const auto few = train(1, "few"), many = train(200, "many");
  EXPECT_LT(many.loss.value(), few.loss.value() / 4);
}

TEST_F(OwnModel, AResumedRunIsTheWholeRunBitForBit) {
  train(12, "whole");
  train(5, "parts");
  EXPECT_EQ(train(12, "parts", /*resume=*/true).step, 12);
  for (const char* name : {"model.safetensors", "optimizer.safetensors"}) {
    const auto whole = load_safetensors(root_ / "whole" / name).tensors;
    const auto parts = load_safetensors(root_ / "parts" / name).tensors;
    ASSERT_EQ(whole.size(), parts.size());
    for (const auto& [key, value] : whole)
      EXPECT_TRUE(at::equal(value, parts.at(key))) << name << " " << key;
  }
}

TEST_F(OwnModel, HasCosts) {
  const auto cost = model_cost(kToy, "toy.json");
  EXPECT_EQ(cost.parameters, 8 * 3 + 8 + 8 + 1);
  EXPECT_EQ(cost.tokens, 4);
  EXPECT_EQ(cost.not_counted, std::nullopt);
  EXPECT_EQ(cost.flops.products, 2 * (8 * 3 + 8));
  EXPECT_EQ(cost.capture_unsupported, std::nullopt);
  const auto options = option_costs(kToy, cost);
  ASSERT_EQ(options.size(), 1u);
  EXPECT_EQ(options[0].name, "squared");
  EXPECT_EQ(options[0].flops, 8);
}

TEST_F(OwnModel, IsMeasured) {
  const auto model = build_model(kToy);
  const auto call = sample_batch(*model, 2, std::nullopt, at::kCPU);
  EXPECT_THAT(call.inputs.at("x").sizes(), ElementsAre(2, 4, 3));
  EXPECT_THAT(call.inputs.at("target").sizes(), ElementsAre(2, 4));
  int64_t steps = 0;
  const auto loss = [&](const Batch& batch) {
    ++steps;
    return model->loss(batch.tensors);
  };
  measure_step(*model, loss, {call.inputs, 8}, at::kCPU, {.warm_up = 1, .steps = 2});
  EXPECT_EQ(steps, 3);
}

TEST_F(OwnModel, WritesNoText) {
  train(1, "run");
  EXPECT_THAT([&] { load_language_model({.path = root_ / "run"}); },
              ThrowsMessage<InputError>(HasSubstr("Toy")));
}

}  // namespace
}  // namespace x_transformers
