// What a model means by the release of x-transformers that its file names, and weights of another:
// they are taken where they mean the same, and refused by the option where they do not.
#include "x_transformers/interchange/release_rules.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <utility>

#include "io/test_files.h"
#include "x_transformers/core/compat.h"
#include "x_transformers/core/json.h"
#include "x_transformers/interchange/interchange.h"
#include "x_transformers/io/state_dict.h"
#include "x_transformers/io/weight_file.h"
#include "x_transformers/layers/attention_layers.h"
#include "x_transformers/models/transformer_wrapper.h"
#include "x_transformers/nn/attention.h"
#include "x_transformers/wrappers/xl_autoregressive.h"

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
    auto path = folder_ / "weights.safetensors";
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
                                       HasSubstr("with \"xt_compat\": \"2.31.10\" in its file")))
        << config.dump();
  };
  const auto none = Json::object();
  refused(net({{"tie_embedding", true}}), "tie_embedding");
  refused({{"type", "AutoregressiveWrapper"}, {"net", net({{"tie_embedding", true}})}},
          "net.tie_embedding");
  refused(net(none, {{"attn_qk_norm", true}, {"attn_qk_norm_dim_scale", true}}),
          "attn_layers.attn_qk_norm_dim_scale");
  refused(net(none, {{"attn_qk_norm", true}, {"attn_qk_norm_groups", 2}, {"attn_num_mem_kv", 1}}),
          "attn_layers.attn_num_mem_kv");
  refused({{"type", "XLAutoregressiveWrapper"}, {"net", net()}}, "net.max_mem_len");
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
  refused(net(none, {{"heads", 1}, {"attn_dim_head", 16}}), "attn_layers.heads");
}

TEST_F(ReleaseRules, WeightsOfTheOlderReleaseAreJudgedAlike) {
  const auto with = [](Json config) {
    config["xt_compat"] = kOther;
    return config;
  };
  const auto old = [&](const Json& config) {
    auto path = folder_ / "old.safetensors";
    save_weights(path, state_dict(build_model(config)->module()), "2.16.1");
    return path;
  };
  const auto plain = net(Json::object(), {{"ff_glu", true}});
  EXPECT_NO_THROW(load_weights(*build_model(with(plain)), old(plain)));
  const auto tied = net({{"tie_embedding", true}});
  const auto model = build_model(with(tied));
  EXPECT_THAT(message_of<InputError>([&] { load_weights(*model, old(tied)); }),
              AllOf(HasSubstr("tie_embedding: has another meaning in x-transformers 2.16.1"),
                    HasSubstr("tied logits are not multiplied")));
}

/// A column of the table is what a model of that release has.
TEST(PythonMeaning, RowsGiveTheNumbers) {
  for (const auto release : {PythonRelease::v2_16_1, PythonRelease::v2_31_10}) {
    SCOPED_TRACE(name_of(release));
    const auto& meaning = meaning_of(release);
    TransformerWrapperOptions options;
    options.compat.xt_compat = release;
    options.num_tokens = 11;
    options.max_seq_len = 8;
    options.tie_embedding = true;
    options.attn_layers.kind = LayersKind::decoder;
    options.attn_layers.dim = 16;
    options.attn_layers.depth = 1;
    options.attn_layers.heads = 2;
    TransformerWrapper net(options);
    const auto table = net->token_emb()->table();
    const auto head = net->linear_head().weight;
    EXPECT_TRUE(at::allclose(head, meaning.tied_logits_are_scaled ? table / 4 : table));
    const auto x = at::randn({1, 3, 16});
    EXPECT_TRUE(at::allclose(net->head(x), at::matmul(x, head.t()), 1e-4, 1e-5));

    AttentionOptions of_attention;
    of_attention.compat.xt_compat = release;
    of_attention.dim = 16;
    of_attention.dim_head = 8;
    of_attention.heads = 2;
    of_attention.qk_norm = of_attention.qk_norm_dim_scale = true;
    of_attention.qk_norm_groups = 2;
    of_attention.num_mem_kv = 1;
    Attention attention(of_attention);
    attention->named_parameters()["mem_k"].detach().fill_(1).narrow(-1, 0, 4).fill_(3);
    double scale = 0;
    at::Tensor key;
    attention->attend_module().observe([&](const at::Tensor&, const at::Tensor& k,
                                           const at::Tensor&, const ScoreProgram& program, bool) {
      scale = program.find<stages::DotProduct>()->scale;
      key = k.select(2, 0).select(1, 0).flatten();
    });
    AttentionInputs inputs;
    inputs.x = x;
    attention->forward(inputs);
    EXPECT_NEAR(scale, meaning.dim_scale_keeps_qk_norm_scale ? 10 : 1 / std::sqrt(8.0), 1e-6);
    const auto as_one = at::tensor({3, 3, 3, 3, 1, 1, 1, 1}, at::kFloat) / std::sqrt(40.0),
               in_groups = at::full({8}, 0.5 * std::pow(8, 0.25), at::kFloat);  // times its scale
    EXPECT_TRUE(at::allclose(key, meaning.memory_keys_are_one_group ? as_one : in_groups));
  }
}

TEST(PythonMeaning, ValueGatesHaveABiasOrBeginHalfOpen) {
  for (const auto release : {PythonRelease::v2_16_1, PythonRelease::v2_31_10}) {
    SCOPED_TRACE(name_of(release));
    AttentionOptions options;
    options.compat.xt_compat = release;
    options.dim = 16;
    options.dim_head = 8;
    options.heads = 2;
    auto plain = options;
    options.gate_values = true;
    Attention gated(options), attention(plain);
    const bool has_bias = meaning_of(release).value_gates_have_a_bias;
    const auto weights = state_dict(*gated);
    EXPECT_EQ(weights.contains("to_v_gate.bias"), has_bias);
    load_state_dict(*attention, [&] {
      TensorMap own;
      for (const auto& [name, tensor] : weights)
        if (!name.starts_with("to_v_gate")) own[name] = tensor;
      return own;
    }());
    AttentionInputs inputs;
    inputs.x = at::randn({1, 3, 16});
    const double opening = has_bias ? 1 / (1 + std::exp(-10.0)) : 0.5;
    EXPECT_TRUE(at::allclose(gated->forward(inputs).out, attention->forward(inputs).out * opening,
                             1e-4, 1e-6));
  }
}

TEST(PythonMeaning, ValuesOfOneHeadAreProjectedWhereTheyMustBe) {
  const auto has_projection = [](PythonRelease release, int64_t heads, int64_t dim_head) {
    AttentionOptions options;
    options.compat.xt_compat = release;
    options.dim = 16;
    options.dim_head = dim_head;
    options.heads = heads;
    Attention attention(options);
    AttentionInputs inputs;
    inputs.x = at::randn({1, 3, 16});
    EXPECT_EQ(attention->forward(inputs).out.sizes(), inputs.x.sizes());
    attention->muon_parameters();
    return state_dict(*attention).contains("to_out.weight");
  };
  EXPECT_TRUE(has_projection(PythonRelease::v2_16_1, 1, 16));
  EXPECT_FALSE(has_projection(PythonRelease::v2_31_10, 1, 16));
  // Another width has to be brought to that of the output, where Python fails.
  EXPECT_TRUE(has_projection(PythonRelease::v2_31_10, 1, 8));
  EXPECT_TRUE(has_projection(PythonRelease::v2_31_10, 2, 8));
}

TEST(PythonMeaning, LossOfSegmentsWeighsTargetsOrRows) {
  TransformerWrapperOptions of_net;
  of_net.num_tokens = 11;
  of_net.max_seq_len = 4;
  of_net.max_mem_len = 4;
  of_net.attn_layers.kind = LayersKind::decoder;
  of_net.attn_layers.dim = 16;
  of_net.attn_layers.depth = 1;
  of_net.attn_layers.heads = 2;
  TransformerWrapper net(of_net);
  const auto x = at::tensor({1, 2, 3, 4, 5, 6, 7, -100, -100, -100}, at::kLong).view({2, 5});
  const auto loss = [&](PythonRelease release, int64_t chunk) {
    XLAutoregressiveWrapperOptions options;
    options.compat.xt_compat = release;
    XLAutoregressiveWrapper model(net.ptr(), options);
    model->eval();
    model->set_loss_chunk(chunk);
    return model->forward(x).item<double>();
  };
  // Four targets in one row, one in the other.
  const auto by_targets = loss(PythonRelease::v2_16_1, 0),
             by_rows = loss(PythonRelease::v2_31_10, 0);
  const auto logits = net->forward(x.clamp_min(0).narrow(1, 0, 4));
  const auto of_targets = -at::log_softmax(logits, -1)
                               .gather(2, x.narrow(1, 1, 4).clamp_min(0).unsqueeze(2))
                               .squeeze(2);
  const double first = of_targets[0].sum().item<double>(), second = of_targets[1][0].item<double>();
  EXPECT_NEAR(by_targets, (first + second) / 5, 1e-5);
  EXPECT_NEAR(by_rows, (first / 4 + second) / 2, 1e-5);
  EXPECT_NEAR(loss(PythonRelease::v2_31_10, 2), by_rows, 1e-5);
}

TEST(PythonMeaning, BlocksAreReturned) {
  for (const auto release : {PythonRelease::v2_16_1, PythonRelease::v2_31_10}) {
    AttentionLayersOptions options;
    options.compat.xt_compat = release;
    options.kind = LayersKind::decoder;
    options.dim = 16;
    options.depth = 3;
    options.heads = 2;
    AttentionLayers layers(options);
    AttentionLayersInputs inputs;
    inputs.x = at::randn({1, 3, 16});
    inputs.keep_hiddens = true;
    const auto output = layers->forward(inputs);
    if (release == PythonRelease::v2_16_1) {
      EXPECT_TRUE(output.block_hiddens.empty());
      continue;
    }
    ASSERT_EQ(output.block_hiddens.size(), 3U);
    // What the first block gives is what the third layer takes.
    EXPECT_TRUE(at::equal(output.block_hiddens[0], output.layer_hiddens[2]));
    EXPECT_TRUE(at::equal(output.block_hiddens[2], output.out));
  }
}

// Where the layers of `depth` are not all alike, each layer is a block.
TEST(PythonMeaning, BlocksAreLayersWhereTheyAreNotAlike) {
  const auto blocks = [](const Json& options) {
    auto config = Json{{"type", "Decoder"}, {"dim", 16}, {"heads", 2}, {"xt_compat", kOther}};
    config.update(options);
    const auto model = build_model(config);
    const auto out = run_model(*model, "forward", {{"x", at::randn({1, 3, 16})}},
                               {{"return_hiddens", true}}, false);
    int64_t count = 0, layers = 0;
    for (const auto& [name, tensor] : out) {
      count += name.starts_with("out.1.block_hiddens.") ? 1 : 0;
      layers += name.starts_with("out.1.layer_hiddens.") ? 1 : 0;
    }
    return std::pair{count, layers - 1};
  };
  EXPECT_EQ(blocks({{"depth", 3}}), std::pair(int64_t{3}, int64_t{6}));
  EXPECT_EQ(blocks({{"depth", 2}, {"weight_tie_layers", true}}), std::pair(int64_t{2}, int64_t{4}));
  EXPECT_EQ(blocks({{"custom_layers", {"a", "f", "f"}}}), std::pair(int64_t{3}, int64_t{3}));
  EXPECT_EQ(blocks({{"depth", 2}, {"sandwich_coef", 1}}), std::pair(int64_t{4}, int64_t{4}));
  const auto [par, layers] = blocks({{"depth", 3}, {"par_ratio", 2}});
  EXPECT_EQ(par, layers);
}

TEST(PythonMeaning, EveryRowIsInTheTable) {
  EXPECT_EQ(python_differences().size() * sizeof(bool), sizeof(PythonMeaning));
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
  // And the reverse, where it is 0.
  auto newer = config;
  newer["xt_compat"] = kOther;
  const auto other = build_model(newer);
  const auto old = folder_ / "old.safetensors";
  save_weights(old, state_dict(model->module()), "2.16.1");
  EXPECT_NO_THROW(load_weights(*other, old));
  save_weights(old, state_dict(build_model(config)->module()), "2.16.1");
  EXPECT_THAT(message_of<InputError>([&] { load_weights(*other, old); }),
              AllOf(HasSubstr(bias), HasSubstr("have no bias")));
  // Of 2.16.1 they are not whole.
  save_weights(path, weights, "2.16.1");
  EXPECT_THAT(message_of<InputError>([&] { load_weights(*model, path); }), HasSubstr(bias));
}

TEST_F(ReleaseRules, OptionsThatCameLaterAreNotBuiltYet) {
  auto config = net(Json::object(), {{"attn_qk_rmsnorm", true}});
  config["xt_compat"] = kOther;
  EXPECT_THAT(message_of<InputError>([&] { build_model(config); }),
              AllOf(HasSubstr("attn_layers.attn_qk_rmsnorm: unknown key"),
                    HasSubstr("an option of x-transformers 2.31.10 that is not built yet")));
}

TEST_F(ReleaseRules, ArgumentsThatCameLaterAreNotBuiltYet) {
  const auto model = build_model(net());
  const TensorMap inputs = {{"x", at::ones({1, 3}, at::kLong)}};
  EXPECT_THAT(message_of<InputError>([&] {
                run_model(*model, "forward", inputs, {{"repeat_blocks", {1, 2}}}, false);
              }),
              AllOf(HasSubstr("unknown argument 'repeat_blocks'"),
                    HasSubstr("2.31.10, and not built yet")));
}

TEST_F(ReleaseRules, OtherReleasesAreUnknown) {
  const auto model = build_model(net());
  const auto path = save(net(), "2.20.0");
  EXPECT_THAT(message_of<InputError>([&] { load_weights(*model, path); }),
              HasSubstr("that of 2.16.1, and no rule translates them"));
  auto config = net();
  config["xt_compat"] = "2.20.0";
  EXPECT_THAT(message_of<InputError>([&] { build_model(config); }),
              AllOf(HasSubstr("xt_compat"), HasSubstr("2.16.1 or 2.31.10")));
  // For files that do not say, the caller may.
  save(net(), "");
  EXPECT_NO_THROW(load_weights(*model, path, {.xt_compat = kOther}));
}

}  // namespace
}  // namespace x_transformers::release_rules_test
