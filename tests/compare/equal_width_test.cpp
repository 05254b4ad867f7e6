// Where the width of a run file's model stands.
#include "x_transformers/compare/equal_width.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "x_transformers/core/error.h"

namespace x_transformers::equal_width_test {
namespace {

std::string place_in(const std::string& model) {
  const auto keys = width_keys({{"model", Json::parse(model)}});
  return fmt::format("{}", fmt::join(keys, "."));
}

constexpr const char* kNet = R"({"type": "TransformerWrapper", "num_tokens": 9, "max_seq_len": 6,
    "attn_layers": {"type": "Decoder", "dim": 16, "depth": 1}})";

std::string within(const std::string& type, const std::string& key) {
  return fmt::format(R"({{"type": "{}", "{}": {}}})", type, key, kNet);
}

TEST(WidthKeys, AreThoseOfTheStackOrOfTheModelItself) {
  EXPECT_EQ(place_in(kNet), "model.attn_layers.dim");
  EXPECT_EQ(place_in(within("AutoregressiveWrapper", "net")), "model.net.attn_layers.dim");
  EXPECT_EQ(place_in(within("DPO", "model")), "model.model.attn_layers.dim");
  EXPECT_EQ(place_in(within("UniversalPretrainWrapper", "model")), "model.model.attn_layers.dim");
  EXPECT_EQ(place_in(within("BeliefStateWrapper", "forward_decoder")),
            "model.forward_decoder.attn_layers.dim");
  EXPECT_EQ(place_in(R"({"type": "XTransformer", "dim": 32})"), "model.dim");
  EXPECT_EQ(place_in(R"({"type": "FLASHAutoregressiveWrapper",
      "net": {"type": "FLASHTransformer", "num_tokens": 9, "dim": 32, "depth": 1}})"),
            "model.net.dim");
  EXPECT_EQ(place_in(R"({"type": "ViTransformerWrapper", "image_size": 8, "patch_size": 4,
      "attn_layers": {"type": "Encoder", "dim": 16, "depth": 1}})"),
            "model.attn_layers.dim");
}

TEST(WidthKeys, AModelWithoutOneIsRefused) {
  for (const auto* model :
       {R"({"type": "XTransformer"})", R"({"type": "XTransformer", "dim": "wide"})", "3"}) {
    EXPECT_THAT([&] { place_in(model); }, testing::ThrowsMessage<InputError>(testing::HasSubstr(
                                              "equal: needs a model with one width, a dim")))
        << model;
  }
  EXPECT_THROW(width_keys(Json::object()), InputError);
}

}  // namespace
}  // namespace x_transformers::equal_width_test
