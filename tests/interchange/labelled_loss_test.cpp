#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "x_transformers/core/error.h"
#include "x_transformers/interchange/interchange.h"
#include "x_transformers/interchange/model.h"

namespace x_transformers::labelled_loss_test {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;
using testing::ThrowsMessage;

const Json kStack = {{"type", "Encoder"}, {"dim", 8}, {"depth", 1}, {"heads", 2}};
const Json kTokens = {
    {"type", "TransformerWrapper"}, {"num_tokens", 5}, {"max_seq_len", 4}, {"attn_layers", kStack}};
const Json kImages = {{"type", "ViTransformerWrapper"},
                      {"image_size", 4},
                      {"patch_size", 2},
                      {"num_classes", 3},
                      {"attn_layers", kStack}};

TEST(LabelledLoss, IsTheCrossEntropyOfEachTokenThatHasALabel) {
  const auto model = build_model(kTokens);
  model->module().eval();
  const auto x = at::randint(0, 5, {2, 4}, at::kLong);
  const auto labels = at::tensor({0, 1, -100, 2, 3, -100, 4, 0}, at::kLong).view({2, 4});
  const auto logits = run_model(*model, "forward", {{"x", x}}, Json::object(), false).at("out");
  const auto expected = at::cross_entropy_loss(logits.view({8, 5}), labels.view({8}));
  EXPECT_TRUE(at::allclose(model->loss({{"x", x}, {"labels", labels}}), expected));
}

TEST(LabelledLoss, IsThatOfTheClassesOfImages) {
  const auto model = build_model(kImages);
  const auto img = at::randn({2, 3, 4, 4});
  const auto labels = at::tensor({2, 0}, at::kLong);
  const auto logits = run_model(*model, "forward", {{"img", img}}, Json::object(), false).at("out");
  EXPECT_TRUE(at::allclose(model->loss({{"img", img}, {"labels", labels}}),
                           at::cross_entropy_loss(logits, labels)));
}

TEST(TargetLoss, IsTheMeanSquareErrorOfTheResult) {
  const auto model = build_model(kStack);
  model->module().eval();
  const auto x = at::randn({2, 4, 8}), target = at::randn({2, 4, 8});
  const auto out = run_model(*model, "forward", {{"x", x}}, Json::object(), false).at("out");
  EXPECT_TRUE(
      at::allclose(model->loss({{"x", x}, {"target", target}}), (out - target).square().mean()));
}

/// A model of a type whose forward is no loss, and a batch of what it reads.
TEST(AnsweredLoss, IsNotMadeUpWhereThereIsNoAnswer) {
  const auto refused = [](const Json& config, const TensorMap& batch) {
    const auto model = build_model(config);
    EXPECT_THAT([&] { model->loss(batch); },
                ThrowsMessage<InputError>(HasSubstr("neither labels nor target")))
        << config["type"];
    std::set<std::string> names;
    for (const auto& [name, tensor] : batch) names.insert(name);
    const auto inputs = model->loss_inputs(names);
    EXPECT_TRUE(!inputs.answers.empty() || !inputs.unsupported.empty()) << config["type"];
  };
  const auto x = at::zeros({2, 4, 8});
  refused(kStack, {{"x", x}});
  refused(kTokens, {{"x", at::zeros({2, 4}, at::kLong)}});
  refused(kImages, {{"img", at::zeros({2, 3, 4, 4})}});
  refused({{"type", "FeedForward"}, {"dim", 8}}, {{"x", x}});
  refused({{"type", "Attention"}, {"dim", 8}}, {{"x", x}});
  refused({{"type", "NeoMLP"},
           {"dim_in", 4},
           {"dim_hidden", 2},
           {"dim_out", 3},
           {"dim_model", 8},
           {"depth", 1}},
          {{"x", at::zeros({2, 4})}});
  refused({{"type", "ContinuousTransformerWrapper"},
           {"dim_in", 8},
           {"max_seq_len", 4},
           {"attn_layers", kStack}},
          {{"x", x}});
  refused({{"type", "RMSNorm"}, {"dim", 8}}, {{"x", x}});
}

TEST(LossInputs, NameTheOptionsThatBoundThem) {
  const auto translator = build_model({{"type", "XTransformer"},
                                       {"dim", 8},
                                       {"enc_num_tokens", 7},
                                       {"enc_depth", 1},
                                       {"enc_heads", 2},
                                       {"enc_max_seq_len", 5},
                                       {"dec_num_tokens", 9},
                                       {"dec_depth", 1},
                                       {"dec_heads", 2},
                                       {"dec_max_seq_len", 6}});
  const auto inputs = translator->loss_inputs({"src", "tgt"});
  const auto *src = inputs.find("src"), *tgt = inputs.find("tgt");
  ASSERT_TRUE(src && tgt);
  EXPECT_EQ(src->count, 7);
  EXPECT_EQ(src->counted_by, "enc_num_tokens");
  EXPECT_EQ(src->longest, 5);
  EXPECT_EQ(src->limited_by, text("{} is 5", option("enc_max_seq_len")));
  EXPECT_EQ(tgt->counted_by, "dec_num_tokens");
  // The last token is only predicted.
  EXPECT_NO_THROW(translator->loss(
      {{"src", at::zeros({1, 5}, at::kLong)}, {"tgt", at::zeros({1, *tgt->longest}, at::kLong)}}));
  EXPECT_ANY_THROW(translator->loss({{"src", at::zeros({1, 5}, at::kLong)},
                                     {"tgt", at::zeros({1, *tgt->longest + 1}, at::kLong)}}));
}

TEST(MultiInputLoss, IsTheMeanOverItsHeads) {
  const auto model = build_model({{"type", "MultiInputTransformerWrapper"},
                                  {"num_tokens", {{"a", 5}, {"b", 6}}},
                                  {"max_seq_len", 4},
                                  {"attn_layers", kStack}});
  model->module().eval();
  const auto a = at::randint(0, 5, {2, 4}, at::kLong), b = at::randint(0, 6, {2, 4}, at::kLong);
  const auto out = run_model(*model, "forward", {{"x.a", a}, {"x.b", b}}, Json::object(), false);
  const auto of = [&](const char* name, const at::Tensor& labels) {
    const auto& logits = out.at(std::string("out.") + name);
    return at::cross_entropy_loss(logits.reshape({8, -1}), labels.view({8}));
  };
  EXPECT_TRUE(at::allclose(
      model->loss({{"x.a", a}, {"x.b", b}, {"labels.a", b.clamp_max(4)}, {"labels.b", a}}),
      (of("a", b.clamp_max(4)) + of("b", a)) / 2));
  EXPECT_TRUE(at::allclose(model->loss({{"x.a", a}, {"x.b", b}, {"labels.b", a}}), of("b", a)));
}

TEST(LabelledLoss, RefusesLabelsThatDoNotFit) {
  const auto refused = [](const Json& config, const TensorMap& batch, const char* message) {
    const auto model = build_model(config);
    EXPECT_THAT([&] { model->loss(batch); }, ThrowsMessage<InputError>(HasSubstr(message)));
  };
  const auto x = at::zeros({2, 4}, at::kLong);
  refused(kTokens, {{"x", x}, {"labels", at::zeros({2}, at::kLong)}},
          "labels: expected int64 [2, 4], one for each of the logits, got Long [2]");
  refused(kTokens, {{"x", x}, {"labels", at::zeros({2, 4})}}, "got Float [2, 4]");
  refused(kTokens, {{"x", x}, {"labels", at::full({2, 4}, 5, at::kLong)}}, "5");
  auto embeddings = kImages;
  embeddings.erase("num_classes");
  refused(embeddings, {{"img", at::zeros({1, 3, 4, 4})}, {"labels", at::zeros({1}, at::kLong)}},
          "num_classes");
}

}  // namespace
}  // namespace x_transformers::labelled_loss_test
