// deep_embeds_and_ids of a TransformerWrapper, a table and the ids of its rows, as they come from
// files.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <string>

#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/interchange/interchange.h"

namespace x_transformers::deep_embeds_test {
namespace {

constexpr int64_t kTokens = 17, kDepth = 2, kDim = 16;

Json net(bool has_own_factors) {
  auto config = Json::parse(R"({"type": "TransformerWrapper", "num_tokens": 17, "max_seq_len": 16,
      "attn_layers": {"type": "Decoder", "dim": 16, "depth": 2, "heads": 2}})");
  config["ff_deep_embed"] = has_own_factors;
  return config;
}

class DeepEmbeds : public testing::Test {
 protected:
  void SetUp() override {
    at::manual_seed(11);
    model_ = build_model(net(false));
    model_->module().eval();
    table_ = at::randn({kTokens, kDepth, kDim});
    x_ = at::randint(kTokens, {2, 6}, at::kLong);
  }
  at::Tensor logits(const TensorMap& inputs) {
    return run_model(*model_, "forward", inputs, Json::object(), false).at("out");
  }

  const at::NoGradGuard no_grad_;
  std::shared_ptr<Model> model_;
  at::Tensor table_, x_;
};

TEST_F(DeepEmbeds, OfTheTokensEqualTheModelsOwn) {
  const auto own = build_model(net(true));
  own->module().eval();
  for (auto& item : own->module().named_parameters()) {
    const auto* shared = model_->module().named_parameters().find(item.key());
    item.value().copy_(shared ? *shared : table_);
  }
  const auto expected = run_model(*own, "forward", {{"x", x_}}, Json::object(), false).at("out");
  const auto given =
      logits({{"x", x_}, {"deep_embeds_and_ids.0", table_}, {"deep_embeds_and_ids.1", x_}});
  EXPECT_TRUE(at::allclose(given, expected, 1e-5, 1e-6));
  EXPECT_FALSE(at::allclose(given, logits({{"x", x_}}), 1e-3, 1e-3));
}

TEST_F(DeepEmbeds, AreRefusedWhereTheyDoNotFit) {
  const auto refusal = [&](const at::Tensor& ids) -> std::string {
    try {
      logits({{"x", x_}, {"deep_embeds_and_ids.0", table_}, {"deep_embeds_and_ids.1", ids}});
    } catch (const InputError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(refusal(x_), "");
  EXPECT_EQ(refusal(at::full_like(x_, kTokens)),
            "deep_embeds_and_ids: 17 at position [0, 0], expected 0 to 16 (the number of rows of "
            "its table is 17)");
  EXPECT_EQ(refusal(x_.narrow(1, 0, 4)),
            "deep_embeds_and_ids: expected floats [batch = 2, seq = 6, depth, dim = 16], got Float "
            "[2, 4, 2, 16]");
}

TEST_F(DeepEmbeds, GenerateTheSameWithACacheAndBeams) {
  const auto writer = build_model({{"type", "AutoregressiveWrapper"}, {"net", net(false)}});
  writer->module().eval();
  const auto prompts = x_.narrow(1, 0, 2);
  const auto run = [&](const char* method, int64_t first, int64_t count, bool cache_kv) {
    TensorMap inputs = {{"prompts", prompts.narrow(0, first, count)},
                        {"deep_embeds_and_ids.0", table_.mul(4)},
                        {"deep_embeds_and_ids.1", x_.narrow(0, first, count)}};
    Json kwargs = {{"seq_len", 4}, {"method", method}, {"cache_kv", cache_kv}};
    if (method == std::string("generate")) kwargs["temperature"] = 0.0;
    return run_model(*writer, "generate", inputs, kwargs, false).at("out");
  };
  for (const char* method : {"generate", "beam_search"}) {
    const auto together = run(method, 0, 2, true);
    EXPECT_TRUE(together.equal(run(method, 0, 2, false))) << method;
    for (int64_t entry = 0; entry < 2; ++entry)
      EXPECT_TRUE(together.narrow(0, entry, 1).equal(run(method, entry, 1, true))) << method;
  }
}

}  // namespace
}  // namespace x_transformers::deep_embeds_test
