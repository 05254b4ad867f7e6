#include "x_transformers/io/state_dict.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <memory>

#include "test_files.h"
#include "x_transformers/io/safetensors.h"
#include "x_transformers/io/weight_file.h"

namespace x_transformers {
namespace {

using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Key;
using testing::Pair;

struct Branch : torch::nn::Module {
  Branch() {
    weight = register_parameter("weight", at::arange(6, at::kFloat).view({2, 3}).clone());
    bias = register_parameter("bias", at::Tensor(), /*requires_grad=*/false);  // absent
    count = register_buffer("count", at::tensor({int64_t{5}}));
  }
  at::Tensor weight, bias, count;
};

// `shared` stands under two names, and its weight under a third.
struct Model : torch::nn::Module {
  Model() {
    shared = register_module("left", std::make_shared<Branch>());
    register_module("right", shared);
    register_parameter("tied", shared->weight);
    scale = register_parameter("scale", at::ones({}));
  }
  std::shared_ptr<Branch> shared;
  at::Tensor scale;
};

TensorMap fresh_weights() {
  return {{"left.weight", at::full({2, 3}, 7.0)},
          {"left.count", at::tensor({int64_t{9}})},
          {"scale", at::scalar_tensor(2.0, at::kDouble)}};
}

using StateDictTest = FolderTest;

TEST_F(StateDictTest, EveryNameOfEveryDefinedTensor) {
  const Model model;
  const TensorMap tensors = state_dict(model);
  EXPECT_THAT(tensors, ElementsAre(Key("left.count"), Key("left.weight"), Key("right.count"),
                                   Key("right.weight"), Key("scale"), Key("tied")));
  EXPECT_TRUE(tensors.at("left.weight").is_same(model.shared->weight));
  EXPECT_TRUE(tensors.at("tied").is_same(model.shared->weight));
}

TEST_F(StateDictTest, LoadCopiesAndConverts) {
  Model model;
  const at::Tensor before = model.shared->weight;
  EXPECT_TRUE(load_state_dict(model, fresh_weights()).clean());
  EXPECT_TRUE(model.shared->weight.is_same(before));
  EXPECT_TRUE(model.shared->weight.requires_grad());
  EXPECT_TRUE(at::equal(model.shared->weight, at::full({2, 3}, 7.0)));
  EXPECT_EQ(model.shared->count.item<int64_t>(), 9);
  EXPECT_EQ(model.scale.scalar_type(), at::kFloat);
  EXPECT_EQ(model.scale.item<float>(), 2.0F);
}

TEST_F(StateDictTest, AnyNameOfATiedTensorWillDo) {
  Model model;
  TensorMap weights = fresh_weights();
  weights["tied"] = weights.at("left.weight");
  weights.erase("left.weight");
  EXPECT_TRUE(load_state_dict(model, weights).clean());
  EXPECT_TRUE(at::equal(model.shared->weight, at::full({2, 3}, 7.0)));
}

TEST_F(StateDictTest, StrictListsWhatDoesNotFitAndChangesNothing) {
  Model model;
  TensorMap weights = fresh_weights();
  weights["left.weight"] = at::zeros({3, 2});
  weights["other"] = at::zeros({1});
  weights.erase("left.count");
  const std::string message = message_of<InputError>([&] { load_state_dict(model, weights); });
  EXPECT_EQ(message,
            "the weights do not fit the model: 2 missing: left.count, right.count; 1 unexpected: "
            "other; 1 misshapen: left.weight: expected [2, 3], got [3, 2]");
  EXPECT_EQ(model.scale.item<float>(), 1.0F);
}

TEST_F(StateDictTest, IntegersAreNoWeights) {
  Model model;
  TensorMap weights = fresh_weights();
  weights["left.weight"] = at::ones({2, 3}, at::kLong);
  weights["left.count"] = at::ones({1}, at::kFloat);
  const std::string message = message_of<InputError>([&] { load_state_dict(model, weights); });
  EXPECT_EQ(message,
            "the weights do not fit the model: 2 of another dtype: left.count: expected Long, got "
            "Float, left.weight: expected Float, got Long");
  const LoadReport report = load_state_dict(model, weights, /*strict=*/false);
  EXPECT_THAT(report.mistyped, ElementsAre(Misfit{"left.count", "expected Long, got Float"},
                                           Misfit{"left.weight", "expected Float, got Long"}));
  EXPECT_TRUE(at::equal(model.shared->weight, at::arange(6, at::kFloat).view({2, 3})));
}

TEST_F(StateDictTest, EveryFloatingTypeBecomesTheModels) {
  for (const auto dtype : {at::kHalf, at::kBFloat16, at::kFloat, at::kDouble}) {
    Model model;
    TensorMap weights = fresh_weights();
    weights["left.weight"] = at::full({2, 3}, 7, dtype);
    weights["left.count"] = at::ones({1}, at::kInt);
    EXPECT_TRUE(load_state_dict(model, weights).clean()) << dtype;
    EXPECT_TRUE(at::equal(model.shared->weight, at::full({2, 3}, 7.0))) << dtype;
  }
}

TEST_F(StateDictTest, WithoutStrictWhatFitsIsCopied) {
  Model model;
  TensorMap weights = fresh_weights();
  weights["left.weight"] = at::zeros({3, 2});
  weights["other"] = at::zeros({1});
  weights["left.count"] = at::Tensor();
  const LoadReport report = load_state_dict(model, weights, /*strict=*/false);
  EXPECT_FALSE(report.clean());
  EXPECT_THAT(report.missing, ElementsAre("left.count", "right.count"));
  EXPECT_THAT(report.unexpected, ElementsAre("other"));
  EXPECT_THAT(report.misshapen, ElementsAre(Misfit{"left.weight", "expected [2, 3], got [3, 2]"}));
  EXPECT_EQ(model.scale.item<float>(), 2.0F);
  EXPECT_TRUE(at::equal(model.shared->weight, at::arange(6, at::kFloat).view({2, 3})));
}

TEST_F(StateDictTest, ManyNamesAreGrouped) {
  LoadReport report;
  EXPECT_EQ(report.describe(), "");
  for (int layer = 0; layer < 12; ++layer) {
    for (const char* name : {"weight", "bias"})
      report.missing.push_back(fmt::format("attn_layers.layers.{}.{}", layer, name));
  }
  EXPECT_EQ(report.describe(), "24 missing under attn_layers.layers.*");
  report.unexpected = report.missing;
  report.unexpected.emplace_back("token_emb.emb.weight");
  for (int i = 0; i < 10; ++i)
    report.misshapen.push_back({fmt::format("x.{}", i), fmt::format("expected [{}], got [2]", i)});
  EXPECT_EQ(report.describe().substr(0, 109),
            "24 missing under attn_layers.layers.*; 25 unexpected: 24 under attn_layers.layers.*, "
            "token_emb.emb.weight; 10");
  EXPECT_THAT(report.describe(), EndsWith("got [2] and 2 more"));
}

TEST_F(StateDictTest, WhatIsWrongAlikeIsSaidOnce) {
  LoadReport report;
  for (int layer = 0; layer < 12; ++layer) {
    for (const char* name : {"to_q", "to_k"})
      report.misshapen.push_back(
          {fmt::format("layers.{}.{}.weight", layer, name), "expected [8, 4], got [4, 4]"});
    report.misshapen.push_back({fmt::format("layers.{}.gamma", layer), "expected [8], got [4]"});
  }
  EXPECT_EQ(report.describe(),
            "36 misshapen: layers.0.to_q.weight and 23 more like it: expected [8, 4], got [4, 4], "
            "layers.0.gamma and 11 more like it: expected [8], got [4]");
  LoadReport types;
  types.mistyped = {{"a", "expected Float, got Long"}, {"b", "expected Float, got Long"}};
  EXPECT_EQ(types.describe(), "2 of another dtype: a and 1 more like it: expected Float, got Long");
}

TEST_F(StateDictTest, TiedTensorsAreStoredOnceWithAliases) {
  const auto path = folder_ / "model.safetensors";
  save_model(path, Model(), "2.16.1", {{"step", "3"}});
  const SafetensorsFile file = load_safetensors(path);
  EXPECT_THAT(file.tensors, ElementsAre(Key("left.count"), Key("left.weight"), Key("scale")));
  EXPECT_THAT(
      file.metadata,
      ElementsAre(
          Pair("aliases",
               R"({"right.count":"left.count","right.weight":"left.weight","tied":"left.weight"})"),
          Pair("format", "pt"), Pair("step", "3"), Pair("xt_compat", "2.16.1"),
          Pair("xxh64", testing::SizeIs(16))));
}

TEST_F(StateDictTest, AModelComesBackWithItsAliases) {
  const auto path = folder_ / "model.safetensors";
  Model model;
  load_state_dict(model, fresh_weights());
  save_model(path, model, "2.16.1");
  const TensorMap weights = load_model_weights(path).tensors;
  EXPECT_EQ(weights.size(), 6U);
  EXPECT_EQ(weights.at("tied").const_data_ptr(), weights.at("left.weight").const_data_ptr());
  Model other;
  EXPECT_TRUE(load_state_dict(other, weights).clean());
  EXPECT_TRUE(at::equal(other.shared->weight, model.shared->weight));
}

TEST_F(StateDictTest, PartsOfOneMemoryAreNotTied) {
  const auto path = folder_ / "weights.safetensors";
  const at::Tensor flat = at::arange(4, at::kFloat);
  save_weights(path,
               {{"all", flat},
                {"square", flat.view({2, 2})},
                {"rotated", flat.view({2, 2}).t()},
                {"first", flat.narrow(0, 0, 2)},
                {"second", flat.narrow(0, 2, 2)},
                {"empty", flat.narrow(0, 0, 0)},
                {"again", flat.view({4})}},
               "2.16.1");
  const SafetensorsFile file = load_safetensors(path);
  EXPECT_EQ(file.tensors.size(), 6U);
  EXPECT_EQ(file.metadata.at("aliases"), R"({"all":"again"})");
}

TEST_F(StateDictTest, TiedTensorsMayBeStoredUnderEachName) {
  const auto path = folder_ / "model.safetensors";
  const Model model;
  EXPECT_EQ(save_weights(path, state_dict(model), "2.16.1"), 3U);
  EXPECT_EQ(save_weights(path, state_dict(model), "2.16.1", {}, TiedWeights::each), 6U);
  const SafetensorsFile file = load_safetensors(path);
  EXPECT_EQ(file.tensors.size(), 6U);
  EXPECT_TRUE(at::equal(file.tensors.at("tied"), model.shared->weight));
  EXPECT_THAT(file.metadata, ElementsAre(Pair("format", "pt"), Pair("xt_compat", "2.16.1")));
}

}  // namespace
}  // namespace x_transformers
