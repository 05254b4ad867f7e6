#include "x_transformers/layers/layer_plan.h"

#include <gtest/gtest.h>

#include "x_transformers/core/error.h"

namespace x_transformers {
namespace {

AttentionLayersOptions decoder(int64_t depth) {
  AttentionLayersOptions options;
  options.kind = LayersKind::decoder;
  options.dim = 16;
  options.depth = depth;
  return options;
}

std::string letters(const AttentionLayersOptions& options) {
  std::string text;
  for (const auto& step : plan_layers(resolve(options)).layers) {
    text += step.type == LayerType::attention         ? 'a'
            : step.type == LayerType::cross_attention ? 'c'
                                                      : 'f';
  }
  return text;
}

std::string refusal(const AttentionLayersOptions& options) {
  try {
    const auto resolved = resolve(options);
    validate(resolved);
    plan_layers(resolved);
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

TEST(LayerPlan, Blocks) {
  auto options = decoder(2);
  EXPECT_EQ(letters(options), "afaf");
  options.macaron = true;
  EXPECT_EQ(letters(options), "faffaf");
  options.cross_attend = true;
  EXPECT_EQ(letters(options), "facffacf");
  options.only_cross = true;
  EXPECT_EQ(letters(options), "fcffcf");
}

TEST(LayerPlan, Sandwich) {
  auto options = decoder(4);
  options.sandwich_coef = 2;
  EXPECT_EQ(letters(options), "aaafafff");
  options.sandwich_coef = 5;
  EXPECT_NE(refusal(options).find("sandwich_coef: expected 1 to depth = 4, got 5"),
            std::string::npos);
}

TEST(LayerPlan, ParRatio) {
  auto options = decoder(6);
  options.par_ratio = 5;
  EXPECT_EQ(letters(options), "afffffafffff");
  options.par_ratio = 1;
  EXPECT_NE(refusal(options).find("par_ratio"), std::string::npos);
}

TEST(LayerPlan, CustomLayers) {
  auto options = decoder(1);
  options.depth.reset();
  options.custom_layers = {{"a", "f", "f"}};
  EXPECT_EQ(letters(options), "aff");
  options.custom_layers = {{"x"}};
  EXPECT_NE(refusal(options).find("custom_layers: expected a, c or f, got 'x'"), std::string::npos);
}

TEST(LayerPlan, WeightTyingRepeatsOneBlock) {
  auto options = decoder(3);
  options.weight_tie_layers = true;
  const auto plan = plan_layers(resolve(options));
  EXPECT_EQ(plan.layers.size(), 2);
  EXPECT_EQ(plan.execute_order, (std::vector<int64_t>{0, 1, 0, 1, 0, 1}));
  EXPECT_EQ(plan.depth, 1);
}

TEST(LayerPlan, ExecutionOrderMustExist) {
  auto options = decoder(1);
  options.layers_execute_order = {{0, 2}};
  EXPECT_NE(refusal(options).find("layers_execute_order: layer 2 of 2 does not exist"),
            std::string::npos);
}

TEST(LayerPlan, ExecutionOrderCountsFromTheEndWhereNegative) {
  auto options = decoder(1);
  options.layers_execute_order = {{-1, 0, -2}};
  const auto plan = plan_layers(resolve(options));
  EXPECT_EQ(plan.execute_order, (std::vector<int64_t>{1, 0, 0}));
  EXPECT_EQ(plan.order_of({{0, -1}}), (std::vector<int64_t>{0, 1}));
  options.layers_execute_order = {{-3}};
  EXPECT_NE(refusal(options).find("layers_execute_order: layer -3 of 2 does not exist"),
            std::string::npos);
}

TEST(LayerPlan, SkipsJoinMirroredBlocks) {
  auto options = decoder(5);
  options.unet_skips = true;
  const auto plan = plan_layers(resolve(options));
  EXPECT_FALSE(plan.layers[4].skip_from.has_value());
  EXPECT_EQ(plan.layers[6].skip_from, 2);
  EXPECT_EQ(plan.layers[8].skip_from, 0);
  options.cross_attend = true;  // Python runs out of skips here
  EXPECT_EQ(plan_layers(resolve(options)).layers[12].skip_from, 0);
  options.depth = 1;
  EXPECT_NE(refusal(options).find("unet_skips"), std::string::npos);
}

// As in Python, where that works; of more layers it fails.
TEST(LayerPlan, TheLastOfThreeCustomLayersJoinsItsOwnInput) {
  auto options = decoder(3);
  options.depth.reset();
  options.unet_skips = true;
  options.custom_layers = {{"a", "a", "f"}};
  EXPECT_EQ(plan_layers(resolve(options)).layers[2].skip_from, 2);
  options.custom_layers = {{"a", "f"}};
  EXPECT_EQ(plan_layers(resolve(options)).layers[1].skip_from, 1);
  options.custom_layers = {{"a", "f", "a", "f"}};
  const auto plan = plan_layers(resolve(options));
  EXPECT_EQ(plan.layers[2].skip_from, 1);
  EXPECT_EQ(plan.layers[3].skip_from, 0);
}

TEST(LayerPlan, OnlyLaterAttentionsMixValues) {
  auto options = decoder(2);
  options.add_value_residual = true;
  const auto plan = plan_layers(resolve(options));
  EXPECT_FALSE(plan.layers[0].learned_value_residual_mix);
  EXPECT_TRUE(plan.layers[2].learned_value_residual_mix);
}

TEST(LayerPlan, PerLayerListsMustFit) {
  auto options = decoder(2);
  options.shift_tokens = PerLayer<int64_t>(std::vector<int64_t>{1, 0});
  EXPECT_NE(refusal(options).find("shift_tokens: expected one value or 4"), std::string::npos);
}

TEST(Rules, OptionsOfPartsThatThereAreNotMayBeAny) {
  auto options = decoder(2);
  options.alibi_num_heads = 9;
  EXPECT_EQ(refusal(options), "");
  options.kind = LayersKind::cross_attender;
  options.qkv_receive_diff_residuals = true;
  EXPECT_EQ(refusal(options), "");
}

struct Rule {
  const char* name;
  void (*set)(AttentionLayersOptions&);
};

class Rules : public testing::TestWithParam<Rule> {};

TEST_P(Rules, IsRefusedByName) {
  auto options = decoder(2);
  EXPECT_EQ(refusal(options), "");
  GetParam().set(options);
  EXPECT_NE(refusal(options).find(GetParam().name), std::string::npos) << refusal(options);
}

using O = AttentionLayersOptions;
INSTANTIATE_TEST_SUITE_P(
    All, Rules,
    testing::Values(
        Rule{"rotary_pos_emb and polar_pos_emb",
             [](O& o) { o.rotary_pos_emb = o.polar_pos_emb = true; }},
        Rule{"alibi_pos_bias, rel_pos_bias",
             [](O& o) { o.alibi_pos_bias = o.rel_pos_bias = true; }},
        Rule{"attn_data_dependent_alibi",
             [](O& o) { o.alibi_pos_bias = o.attn.data_dependent_alibi = true; }},
        Rule{"rotary_xpos: needs a causal",
             [](O& o) { o.rotary_xpos = true, o.kind = LayersKind::encoder; }},
        Rule{"rotary_emb_dim: expected at most attn_dim_head = 64, got 65",
             [](O& o) { o.rotary_emb_dim = 65; }},
        Rule{"rotary_interpolation_factor",
             [](O& o) { o.rotary_pos_emb = true, o.rotary_interpolation_factor = 0.5; }},
        Rule{"rel_pos_num_buckets", [](O& o) { o.rel_pos_num_buckets = 256; }},
        Rule{"alibi_num_heads", [](O& o) { o.alibi_pos_bias = true, o.alibi_num_heads = 9; }},
        Rule{"use_scalenorm, use_rmsnorm", [](O& o) { o.use_scalenorm = o.use_rmsnorm = true; }},
        Rule{"use_layerscale and use_adaptive",
             [](O& o) { o.use_layerscale = o.use_adaptive_layerscale = true; }},
        Rule{"sandwich_norm: needs pre_norm",
             [](O& o) { o.sandwich_norm = true, o.pre_norm = false; }},
        Rule{"use_dynamic_tanh: needs",
             [](O& o) { o.use_dynamic_tanh = true, o.pre_norm = false; }},
        Rule{"resi_dual and sandwich_norm", [](O& o) { o.resi_dual = o.sandwich_norm = true; }},
        Rule{"resi_dual and num_residual_streams",
             [](O& o) { o.resi_dual = true, o.num_residual_streams = 2; }},
        Rule{"resi_dual and gate_residual", [](O& o) { o.resi_dual = o.gate_residual = true; }},
        Rule{"resi_dual and unet_skips", [](O& o) { o.resi_dual = o.unet_skips = true; }},
        Rule{"resi_dual needs its final norm",
             [](O& o) { o.resi_dual = true, o.pre_norm_has_final_norm = false; }},
        Rule{"resi_dual_scale: needs resi_dual", [](O& o) { o.resi_dual_scale = 0.5; }},
        Rule{"resi_dual_scale: expected",
             [](O& o) { o.resi_dual = true, o.resi_dual_scale = 1.5; }},
        Rule{"not all three",
             [](O& o) { o.custom_layers = {{"a"}}, o.layers_execute_order = {{0}}; }},
        Rule{"weight_tie_layers", [](O& o) { o.weight_tie_layers = true, o.sandwich_coef = 1; }},
        Rule{"num_residual_streams: expected", [](O& o) { o.num_residual_streams = 0; }},
        Rule{"num_residual_streams and gate",
             [](O& o) { o.num_residual_streams = 2, o.gate_residual = true; }},
        Rule{"qkv_receive_diff_residuals: needs",
             [](O& o) { o.qkv_receive_diff_residuals = true; }},
        Rule{"dim: expected", [](O& o) { o.dim = 0; }},
        Rule{"depth: expected", [](O& o) { o.depth = -1; }},
        Rule{"attn_kv_heads and attn_one_kv_head",
             [](O& o) { o.attn.kv_heads = 2, o.attn.one_kv_head = true; }},
        Rule{"kv_heads: expected a divisor of heads", [](O& o) { o.attn.kv_heads = 3; }},
        Rule{"rotate_num_heads: expected", [](O& o) { o.rotate_num_heads = 9; }},
        Rule{"rotate_num_heads: fewer than heads need attn_kv_heads",
             [](O& o) { o.rotate_num_heads = 2, o.attn.kv_heads = 4; }},
        Rule{"attn.heads: is 4, but the stack's heads is 2; set that one alone",
             [](O& o) { o.heads = 2, o.attn.heads = 4; }},
        Rule{"attn.dim: is 32, but the stack's dim is 16", [](O& o) { o.attn.dim = 32; }},
        Rule{"ff.dim: is 32, but the stack's dim is 16", [](O& o) { o.ff.dim = 32; }},
        Rule{"attn.causal: is true, but the stack is not causal; set causal alone",
             [](O& o) { o.kind = LayersKind::encoder, o.attn.causal = true; }},
        Rule{"cross_attn.heads: is 4, but the stack's heads is 8",
             [](O& o) { o.cross_attn = o.attn, o.cross_attn->heads = 4; }},
        Rule{"causal: is true, but the layers of an Encoder see all tokens",
             [](O& o) { o.kind = LayersKind::encoder, o.causal = true; }},
        Rule{"use_latent_q: needs", [](O& o) { o.attn.use_latent_q = true; }},
        Rule{"use_latent_kv: needs", [](O& o) { o.attn.use_latent_kv = true; }},
        Rule{"latent_rope_subheads: needs", [](O& o) { o.attn.latent_rope_subheads = 2; }},
        Rule{"qk_norm_groups: expected a divisor",
             [](O& o) { o.attn.qk_norm = true, o.attn.qk_norm_groups = 7; }},
        Rule{"qk_norm_groups: leaves",
             [](O& o) { o.attn.qk_norm = true, o.attn.qk_norm_groups = 32; }},
        Rule{"use_cope: needs causal",
             [](O& o) { o.attn.use_cope = true, o.kind = LayersKind::encoder; }},
        Rule{"selective: needs causal",
             [](O& o) { o.attn.selective = true, o.kind = LayersKind::encoder; }},
        Rule{"at most one of them", [](O& o) { o.attn.sigmoid = o.attn.hard = true; }},
        Rule{"logit_softclamp_value",
             [](O& o) { o.attn.softclamp_logits = true, o.attn.logit_softclamp_value = 0; }},
        Rule{"dropout: expected", [](O& o) { o.attn.dropout = 1.5; }},
        Rule{"ff_relu_squared and ff_solu", [](O& o) { o.ff.relu_squared = o.ff.solu = true; }}),
    [](const auto& info) { return "Rule" + std::to_string(info.index); });

/// What the stack fills in is no contradiction when it is filled in again.
TEST(ResolvedOptions, AreOptionsThemselves) {
  auto options = decoder(2);
  options.heads = 4;
  options.attn.heads = 4;
  options.attn.dim = options.dim;
  const auto once = resolve(options), twice = resolve(once);
  EXPECT_EQ(twice.attn.heads, 4);
  EXPECT_EQ(twice.cross_attn->heads, 4);
  EXPECT_EQ(twice.ff.dim, options.dim);
}

}  // namespace
}  // namespace x_transformers
