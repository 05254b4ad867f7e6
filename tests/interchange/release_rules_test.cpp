// Weights of x-transformers 2.31.10 are taken where they mean the same, and refused by the option
// where they do not.
#include "x_transformers/interchange/release_rules.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "io/test_files.h"
#include "x_transformers/core/json.h"
#include "x_transformers/interchange/interchange.h"
#include "x_transformers/io/state_dict.h"
#include "x_transformers/io/weight_file.h"

namespace x_transformers::release_rules_test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr const char* kOther = "2.31.10";

class ReleaseRules : public FolderTest {
 protected:
  static Json net(const Json& options = Json::object(), const Json& layers = Json::object()) {
    Json config = {
        {"type", "TransformerWrapper"},
        {"num_tokens", 11},
        {"max_seq_len", 8},
        {"attn_layers",
         {{"type", "Decoder"}, {"dim", 16}, {"depth", 1}, {"heads", 2}, {"attn_dim_head", 8}}}};
    config.update(options);
    config["attn_layers"].update(layers);
    return config;
  }

  /// A file of the model's weights that says `release`.
  std::filesystem::path save(const Json& config, const std::string& release = kOther) {
    const auto path = folder_ / "weights.safetensors";
    save_weights(path, state_dict(build_model(config)->module()), release);
    return path;
  }

  std::string refusal(const Json& config) {
    const auto path = save(config);
    const auto model = build_model(config);
    return message_of<InputError>([&] { load_weights(*model, path); });
  }
};

TEST_F(ReleaseRules, WeightsThatMeanTheSameAreTaken) {
  for (const auto& config :
       {net(),
        net(Json::object(), {{"rotary_pos_emb", true},
                             {"attn_qk_norm", true},
                             {"ff_glu", true},
                             {"attn_num_mem_kv", 2}}),
        net({{"max_mem_len", 0}}),
        Json{{"type", "XLAutoregressiveWrapper"}, {"net", net({{"max_mem_len", 4}})}},
        Json{{"type", "DPO"}, {"model", net()}}}) {
    SCOPED_TRACE(config.dump());
    const auto model = build_model(config), other = build_model(config);
    const auto path = folder_ / "weights.safetensors";
    save_weights(path, state_dict(other->module()), kOther);
    load_weights(*model, path);
    const auto expected = state_dict(other->module());
    for (const auto& [name, tensor] : state_dict(model->module()))
      EXPECT_TRUE(at::equal(tensor, expected.at(name))) << name;
  }
}

TEST_F(ReleaseRules, WeightsThatStandForOtherNumbersAreRefusedByTheOption) {
  const auto refused = [&](const Json& config, const std::string& option) {
    EXPECT_THAT(refusal(config), AllOf(HasSubstr("weights.safetensors: " + option +
                                                 ": has another meaning in "
                                                 "x-transformers 2.31.10"),
                                       HasSubstr("xt_compat")))
        << config.dump();
  };
  const auto none = Json::object();
  refused(net({{"tie_embedding", true}}), "tie_embedding");
  refused({{"type", "AutoregressiveWrapper"}, {"net", net({{"tie_embedding", true}})}},
          "tie_embedding");
  refused(net(none, {{"attn_qk_norm", true}, {"attn_qk_norm_dim_scale", true}}),
          "qk_norm_dim_scale");
  refused(net(none, {{"attn_qk_norm", true}, {"attn_qk_norm_groups", 2}, {"attn_num_mem_kv", 1}}),
          "num_mem_kv");
  refused({{"type", "XLAutoregressiveWrapper"}, {"net", net()}}, "max_mem_len");
  refused({{"type", "XValTransformerWrapper"},
           {"num_tokens", 11},
           {"numerical_token_id", 3},
           {"max_seq_len", 8},
           {"tie_embedding", true},
           {"attn_layers", net()["attn_layers"]}},
          "tie_embedding");
  refused({{"type", "ContinuousTransformerWrapper"},
           {"max_seq_len", 8},
           {"average_pool_embed", true},
           {"attn_layers", net()["attn_layers"]}},
          "average_pool_embed");
}

TEST_F(ReleaseRules, ValueGatesWithoutABiasAreThoseOfABiasOfZero) {
  const auto config = net(Json::object(), {{"attn_gate_values", true}});
  const auto model = build_model(config);
  auto weights = state_dict(build_model(config)->module());
  const std::string bias = "attn_layers.layers.0.1.to_v_gate.bias";
  ASSERT_EQ(weights.erase(bias), 1U);
  const auto path = folder_ / "weights.safetensors";
  save_weights(path, weights, kOther);
  load_weights(*model, path);
  EXPECT_EQ(state_dict(model->module()).at(bias).abs().sum().item<float>(), 0.F);
  // Of 2.16.1 they are not whole.
  save_weights(path, weights, "2.16.1");
  EXPECT_THAT(message_of<InputError>([&] { load_weights(*model, path); }), HasSubstr(bias));
}

TEST_F(ReleaseRules, OtherReleasesAreUnknown) {
  const auto model = build_model(net());
  const auto path = save(net(), "2.20.0");
  EXPECT_THAT(message_of<InputError>([&] { load_weights(*model, path); }),
              HasSubstr("that of 2.16.1, and no rule translates them"));
  // For files that do not say, the caller may.
  save(net(), "");
  EXPECT_NO_THROW(load_weights(*model, path, {.xt_compat = kOther}));
}

}  // namespace
}  // namespace x_transformers::release_rules_test
