#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

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
