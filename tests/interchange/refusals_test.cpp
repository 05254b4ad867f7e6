// Options that exclude each other and values out of range: each rule has a case that breaks it
// alone, and the message names what was given.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "x_transformers/core/error.h"
#include "x_transformers/core/json.h"
#include "x_transformers/interchange/interchange.h"

namespace x_transformers {
namespace {

/// What is merged over a small model that is built without complaint.
struct Case {
  const char* changes;
  const char* message;
};

void PrintTo(const Case& item, std::ostream* out) { *out << item.changes; }

std::string refusal(const Json& config) {
  try {
    build_model(config);
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

/// A test whose cases change one kind of model.
class Refused : public testing::TestWithParam<Case> {
 protected:
  void expect(Json config) const {
    ASSERT_EQ(refusal(config), "") << "the model as such is refused";
    config.merge_patch(Json::parse(GetParam().changes));
    EXPECT_NE(refusal(config).find(GetParam().message), std::string::npos)
        << "got '" << refusal(config) << "'";
  }
};

class RefusedNet : public Refused {};
TEST_P(RefusedNet, NamesTheRule) {
  expect(Json::parse(
      R"({"type": "TransformerWrapper", "num_tokens": 17, "max_seq_len": 16, "attn_layers":
      {"type": "Decoder", "dim": 16, "depth": 2, "heads": 4, "attn_dim_head": 8}})"));
}
INSTANTIATE_TEST_SUITE_P(
    All, RefusedNet,
    testing::Values(
        Case{R"({"attn_layers": {"depth": -2}})",
             "config.attn_layers.depth: expected 0 or more, got -2"},
        Case{R"({"average_pool_embed": true, "use_cls_token": true})",
             "average_pool_embed and use_cls_token"},
        Case{R"({"use_cls_token": true, "attn_pool": true})", "use_cls_token and attn_pool"},
        Case{R"({"mixture_of_softmax": true, "num_output_heads": 2})",
             "mixture_of_softmax: needs num_output_heads = 1"},
        Case{R"({"num_output_heads": 0})", "num_output_heads: expected a positive number, got 0"},
        Case{R"({"emb_frac_gradient": 0})", "emb_frac_gradient: expected a positive number, got 0"},
        Case{R"({"num_memory_tokens": 2, "memory_tokens_interspersed_every": 0})",
             "memory_tokens_interspersed_every: expected a positive number, got 0"},
        Case{
            R"({"num_memory_tokens": 2, "memory_tokens_interspersed_every": 2, "attn_layers": {"type": "Encoder"}})",
            "memory_tokens_interspersed_every: needs a Decoder"},
        Case{R"({"tie_embedding": true, "emb_dim": 8})",
             "tie_embedding: needs emb_dim = attn_layers.dim"},
        Case{R"({"scaled_sinu_pos_emb": true, "attn_layers": {"dim": 15}})",
             "scaled_sinu_pos_emb: expected an even"},
        Case{R"({"max_mem_len": -1})", "max_mem_len: expected 0 or more, got -1"},
        Case{R"({"num_memory_tokens": -1})", "num_memory_tokens: expected 0 or more, got -1"},
        Case{R"({"attn_pool": true, "num_pooled_tokens": 0})",
             "num_pooled_tokens: expected a positive number, got 0"},
        Case{R"({"attn_pool": true, "attn_pool_depth": 0})",
             "attn_pool_depth: expected a positive number, got 0"},
        Case{R"({"attn_pool": true, "dim_pooled_tokens": 0})",
             "dim_pooled_tokens: expected a positive number, got 0"},
        Case{R"({"logits_dim": -3})", "logits_dim: expected a positive number, got -3"},
        Case{R"({"emb_dim": 0})", "emb_dim: expected a positive number, got 0"},
        Case{R"({"use_cls_token": true, "num_cls_tokens": -1})",
             "num_cls_tokens: expected a positive number, got -1"},
        Case{R"({"embed_num_tokens": {"kind": 0}})",
             "embed_num_tokens.kind: expected a positive number, got 0"},
        Case{R"({"mixture_of_softmax": true, "mixture_of_softmax_k": 0})",
             "mixture_of_softmax_k: expected a positive number, got 0"},
        Case{R"({"recycling": true, "train_max_recycle_steps": 0})",
             "train_max_recycle_steps: expected a positive number, got 0"},
        Case{R"({"tie_embedding": true, "token_emb": {"type": "Embedding", "num_embeddings": 17,
                 "embedding_dim": 16}})",
             "tie_embedding: needs a TokenEmbedding as token_emb"},
        Case{R"({"tie_embedding": true, "to_logits": {"type": "Linaer"}})",
             "to_logits.type: unknown type 'Linaer'"},
        Case{R"({"attn_layers": {"unet_skips": true, "depth": 1}})", "unet_skips: needs a depth"},
        Case{R"({"attn_layers": {"depth": null}})", "depth: is needed (or custom_layers)"},
        Case{R"({"num_tokens": 1000000000000})",
             "num_tokens: expected 100000000 or less, got 1000000000000"},
        Case{R"({"max_seq_len": 9223372036854775807})",
             "max_seq_len: expected 100000000 or less, got 9223372036854775807"},
        Case{R"({"num_memory_tokens": 1000000000000})",
             "num_memory_tokens: expected 100000000 or less"},
        Case{R"({"num_memory_tokens": 2, "memory_tokens_interspersed_every": 1000000000000})",
             "memory_tokens_interspersed_every: expected 100000000 or less"},
        Case{R"({"logits_dim": 1000000000000})", "logits_dim: expected 100000000 or less"},
        Case{R"({"emb_dim": 1000000000000})", "emb_dim: expected 100000000 or less"},
        Case{R"({"use_cls_token": true, "num_cls_tokens": 1000000000000})",
             "num_cls_tokens: expected 100000000 or less"},
        Case{R"({"attn_pool": true, "num_pooled_tokens": 1000000000000})",
             "num_pooled_tokens: expected 100000000 or less"},
        Case{R"({"attn_pool": true, "dim_pooled_tokens": 1000000000000})",
             "dim_pooled_tokens: expected 100000000 or less"},
        Case{R"({"attn_pool": true, "attn_pool_depth": 1000000000000})",
             "attn_pool_depth: expected 10000 or less"},
        Case{R"({"mixture_of_softmax": true, "mixture_of_softmax_k": 1000000000000})",
             "mixture_of_softmax_k: expected 100000000 or less"},
        Case{R"({"recycling": true, "train_max_recycle_steps": 9223372036854775807})",
             "train_max_recycle_steps: expected 100000000 or less"},
        Case{R"({"embed_num_tokens": {"kind": 1000000000000}})",
             "embed_num_tokens.kind: expected 100000000 or less"},
        Case{R"({"num_output_heads": 1000000000})", "num_output_heads: expected 10000 or less"},
        Case{R"({"token_emb": {"type": "TokenEmbedding", "dim": 0, "num_tokens": 17}})",
             "token_emb.dim: expected a positive number, got 0"},
        Case{R"({"token_emb": {"type": "TokenEmbedding", "dim": 16}})",
             "token_emb.num_tokens: is needed"},
        Case{
            R"({"attn_layers": {"type": "Encoder"}, "average_pool_embed": true, "attn_pool": true})",
            "average_pool_embed and attn_pool: at most one of them, unless the stack is causal"},
        Case{R"({"attn_layers": {"par_ratio": 1}})", "par_ratio: expected 2 to 4, got 1"},
        Case{R"({"emb_dropout": 1.5})", "emb_dropout: expected a number in [0, 1], got 1.5"}));

class RefusedLayers : public Refused {};
TEST_P(RefusedLayers, NamesTheRule) {
  expect(
      Json::parse(R"({"type": "Decoder", "dim": 16, "depth": 4, "heads": 4, "attn_dim_head": 8})"));
}
INSTANTIATE_TEST_SUITE_P(
    All, RefusedLayers,
    testing::Values(
        Case{R"({"unet_skips": true, "layers_execute_order": [4, 0, 1, 2, 3, 5, 6, 7]})",
             "unet_skips and layers_execute_order: layer 4 joins what went into the"},
        Case{R"({"layer_dropout": 2})", "layer_dropout: expected a number in [0, 1], got 2"},
        Case{R"({"layer_dropout": [0, 0, 0, 0, 0, 0, 0, -0.5]})",
             "layer_dropout: expected a number in [0, 1], got -0.5"},
        Case{R"({"cross_attn_tokens_dropout": 2})",
             "cross_attn_tokens_dropout: expected a number in [0, 1], got 2"},
        Case{R"({"shift_tokens": -1})", "shift_tokens: expected 0 or more, got -1"},
        Case{R"({"shift_tokens": 1000000000})", "shift_tokens: 1000000000 cuts dim ="},
        Case{R"({"alibi_pos_bias": true, "alibi_num_heads": -1})",
             "alibi_num_heads: expected a positive number, got -1"},
        Case{R"({"alibi_pos_bias": true, "alibi_num_heads": 5})",
             "alibi_num_heads: must not exceed heads = 4"},
        Case{R"({"rotary_pos_emb": true, "rotary_emb_dim": -2})",
             "rotary_emb_dim: expected 0 or more, got -2"},
        Case{R"({"dim": 3, "dynamic_pos_bias": true})", "dynamic_pos_bias: needs a dim of 4"},
        Case{R"({"attn_dim_out": 8})", "attn_dim_out: the residual has dim = 16, got 8"},
        Case{R"({"ff_dim_out": 8})", "ff_dim_out: the residual has dim = 16, got 8"},
        Case{R"({"cross_attend": true, "cross_attn_dim_out": 8})",
             "cross_attn_dim_out: the residual has dim = 16, got 8"},
        Case{R"({"unet_skips": true, "sandwich_coef": 1, "depth": 2})",
             "unet_skips: par_ratio and sandwich_coef leave no blocks to mirror"},
        Case{R"({"rotary_pos_emb": true, "attn_dim_head": 5, "rotary_emb_dim": 5})",
             "rotary_emb_dim: 5 rotates pairs of features"},
        Case{R"({"rel_pos_bias": true, "rel_pos_num_buckets": 1})",
             "rel_pos_num_buckets: expected 2 or more, got 1"},
        Case{R"({"type": "Encoder", "rel_pos_bias": true, "rel_pos_num_buckets": 3})",
             "rel_pos_num_buckets: expected 4 or more, got 3"},
        Case{R"({"attn_max_attend_past": -1})", "attn_max_attend_past: expected 0 or more, got -1"},
        Case{R"({"attn_value_dim_head": -8})",
             "attn_value_dim_head: expected a positive number, got -8"},
        Case{R"({"attn_dim_context": 0})", "attn_dim_context: expected a positive number, got 0"},
        Case{R"({"attn_use_cope": true, "attn_cope_max_pos": 0})",
             "attn_cope_max_pos: expected a positive number, got 0"},
        Case{R"({"attn_gumbel_softmax": true, "attn_gumbel_softmax_temp": 0})",
             "attn_gumbel_softmax_temp: expected a positive number, got 0"},
        Case{R"({"attn_laser": true, "attn_laser_softclamp_value": 0})",
             "attn_laser_softclamp_value: expected a positive number, got 0"},
        Case{R"({"attn_sublayer_dropout": 2})",
             "attn_sublayer_dropout: expected a number in [0, 1], got 2"},
        Case{R"({"softclamp_output": true, "softclamp_output_value": 0})",
             "softclamp_output_value: expected a positive number, got 0"},
        Case{R"({"rotary_xpos": true, "rotary_xpos_scale_base": 0})",
             "rotary_xpos_scale_base: expected a positive number, got 0"},
        Case{R"({"use_adaptive_layernorm": true, "dim_condition": 0})",
             "dim_condition: expected a positive number, got 0"},
        Case{R"({"polar_pos_emb": true, "attn_use_cope": true})",
             "polar_pos_emb and attn_use_cope: at most one"},
        Case{R"({"dynamic_pos_bias": true, "dynamic_pos_bias_mlp_depth": 0})",
             "dynamic_pos_bias_mlp_depth: expected a positive number, got 0"},
        Case{
            R"({"type": "Encoder", "attn_data_dependent_alibi": true, "attn_data_dependent_alibi_per_row": true})",
            "attn_data_dependent_alibi_per_row: needs causal attention"},
        Case{R"({"par_ratio": 2, "cross_attend": true})",
             "par_ratio: a block of 2 layers is too large"},
        Case{R"({"depth": 1000000000})", "depth: expected 10000 or less, got 1000000000"},
        Case{R"({"dim": 1000000000})", "dim: expected 100000000 or less, got 1000000000"},
        Case{R"({"heads": 1000000000000})",
             "config.heads: expected 100000000 or less, got 1000000000000"},
        Case{R"({"heads": 0})", "config.heads: expected a positive number, got 0"},
        Case{R"({"attn_dim_head": 1000000000000})", "attn_dim_head: expected 100000000 or less"},
        Case{R"({"attn_dim_head": -3})",
             "config.attn_dim_head: expected a positive number, got -3"},
        Case{R"({"attn_dim_head": 0})", "config.attn_dim_head: expected a positive number, got 0"},
        Case{R"({"attn_num_mem_kv": 1000000000000})",
             "attn_num_mem_kv: expected 100000000 or less"},
        Case{R"({"attn_use_cope": true, "attn_cope_max_pos": 1000000000000})",
             "attn_cope_max_pos: expected 100000000 or less"},
        Case{R"({"attn_dim_context": 1000000000000})",
             "attn_dim_context: expected 100000000 or less"},
        Case{R"({"attn_value_dim_head": 1000000000000})",
             "attn_value_dim_head: expected 100000000 or less"},
        Case{R"({"ff_mult": 1e13})", "ff_mult: expected 100000000 hidden features or fewer"},
        Case{R"({"ff_mult": 1e300})", "ff_mult: expected 100000000 hidden features or fewer"},
        Case{R"({"num_residual_streams": 1000000000000})",
             "num_residual_streams: expected 100000000 or less"},
        Case{R"({"use_adaptive_layernorm": true, "dim_condition": 1000000000000})",
             "dim_condition: expected 100000000 or less"},
        Case{R"({"use_adaptive_layernorm": true, "adaptive_condition_mlp": true,
                 "adaptive_condition_mlp_expansion": 9223372036854775807})",
             "adaptive_condition_mlp_expansion: expected 100000000 or less"},
        Case{R"({"dynamic_pos_bias": true, "dynamic_pos_bias_mlp_depth": 1000000000000})",
             "dynamic_pos_bias_mlp_depth: expected 10000 or less"},
        Case{R"({"rel_pos_bias": true, "rel_pos_num_buckets": 1000000000000,
                 "rel_pos_max_distance": 1000000000000})",
             "rel_pos_num_buckets: expected 100000000 or less"},
        Case{R"({"attn_kv_heads": 3})",
             "config.attn_kv_heads: expected a divisor of heads = 4, got 3"},
        Case{R"({"attn": {"kv_heads": 3}})",
             "attn_kv_heads: expected a divisor of heads = 4, got 3"},
        Case{R"({"attn_qk_norm": true, "attn_qk_norm_groups": 3})",
             "attn_qk_norm_groups: expected a divisor of attn_dim_head = 8, got 3"},
        Case{R"({"attn_sigmoid": true, "attn_hard": true})",
             "config: attn_sigmoid, attn_hard, attn_l2_distance, attn_gumbel_softmax and "
             "attn_sparse_topk: at most one of them"},
        Case{R"({"type": "Encoder", "attn_selective": true})",
             "attn_selective: needs causal attention"},
        Case{R"({"rotate_num_heads": 9})",
             "config.rotate_num_heads: expected 1 to heads = 4, got 9"},
        Case{R"({"attn_latent_rope_subheads": 2})",
             "attn_latent_rope_subheads: needs attn_use_latent_kv"},
        Case{R"({"cross_attend": true, "cross_attn_kv_heads": 3})",
             "config.cross_attn_kv_heads: expected a divisor of heads = 4, got 3"},
        Case{R"({"cross_attend": true, "only_cross": true, "attn_kv_heads": 3})",
             "config.attn_kv_heads: expected a divisor of heads = 4, got 3"},
        Case{R"({"ff_custom_activation": "Banana"})",
             "config.ff_custom_activation.type: unknown type 'Banana'"},
        Case{R"({"ff_custom_activation": {"type": "GELU", "approximate": "erf"}})",
             "custom_activation.approximate: expected none or tanh, got 'erf'"},
        Case{R"({"ff_custom_activation": {"type": "GELU", "approx": "tanh"}})",
             "custom_activation.approx: unknown key"},
        Case{R"({"ff_custom_activation": {"type": "ReLU", "slope": 2}})",
             "custom_activation: ReLU takes no arguments, got {\"slope\":2}"},
        Case{R"({"ff_custom_activation": {"type": "PReLU", "num_parameters": 0}})",
             "num_parameters: expected a positive number, got 0"},
        Case{R"({"ff_custom_activation": {"type": "RReLU", "lower": 2}})",
             "lower: expected at most upper = "},
        Case{R"({"attn_hybrid_fold_axial_dim": 1, "attn_hybrid_module": {"type": "RNN",
                 "input_size": 16, "hidden_size": 32, "nonlinearity": "sin"}})",
             "nonlinearity: expected tanh or relu, got 'sin'"},
        Case{R"({"ff_mult": 0.01})", "config.ff_mult: 0.01 leaves no hidden features"},
        Case{R"({"ff_dropout": 1.5})", "config.ff_dropout: expected a number in [0, 1], got 1.5"},
        Case{R"({"ff_sublayer_dropout": 1.5})", "config.ff_sublayer_dropout: expected a number"},
        Case{R"({"ff_relu_squared": true, "ff_solu": true})",
             "config: ff_relu_squared and ff_solu: at most one of them"},
        Case{R"({"rotary_pos_emb": true, "rotary_interpolation_factor": 0.5})",
             "rotary_interpolation_factor: expected 1 or more, got 0.5"},
        Case{R"({"attn": [1]})", "config.attn: expected an object, got [1]"},
        Case{R"({"weight_tie_layers": true, "depth": null})", "weight_tie_layers: needs depth"},
        Case{R"({"weight_tie_layers": true, "layers_execute_order": [0, 1]})",
             "weight_tie_layers: not with"},
        Case{R"({"weight_tie_layers": true, "integrate_layers": true, "depth": 2})",
             "integrate_layers: each layer weighs those before it, so that weight_tie_layers can "
             "neither repeat nor move layers"},
        Case{R"({"integrate_layers": true, "layers_execute_order": [0, 1, 0, 1]})",
             "integrate_layers: each layer weighs those before it, so that layers_execute_order "
             "can neither repeat nor move layers"},
        Case{R"({"causal": true})",
             "config.causal: unknown key; leave it out: a Decoder is causal, an Encoder is not"},
        Case{R"({"use_cache": true})", "config.use_cache: unknown key; leave it out: generate "}));

class RefusedAttention : public Refused {};
TEST_P(RefusedAttention, NamesTheRule) {
  expect(Json::parse(R"({"type": "Attention", "dim": 16, "heads": 4, "dim_head": 8})"));
}
INSTANTIATE_TEST_SUITE_P(
    All, RefusedAttention,
    testing::Values(
        Case{R"({"hybrid_module": {"type": "MinGRU", "dim": 16, "dim_out": 32}})",
             "hybrid_module: needs hybrid_fold_axial_dim"},
        Case{R"({"use_latent_kv": true, "dim_latent_kv": 6,
                             "qkv_receive_diff_residuals": true})",
             "use_latent_kv and qkv_receive_diff_residuals: only one"},
        Case{R"({"use_latent_kv": true, "dim_latent_kv": 6, "latent_rope_subheads": 2,
                             "rotate_num_heads": 2})",
             "latent_rope_subheads and rotate_num_heads"},
        Case{R"({"use_latent_kv": true, "dim_latent_kv": 0})",
             "dim_latent_kv: expected a positive"},
        Case{R"({"use_latent_q": true, "dim_latent_q": 0})", "dim_latent_q: expected a positive"},
        Case{R"({"dim_out": 0})", "dim_out: expected a positive number, got 0"},
        Case{R"({"sparse_topk": 0})", "sparse_topk: expected a positive number, got 0"},
        Case{R"({"hybrid_module": {"type": "MinGRU", "dim": 16, "dim_out": 32},
                             "hybrid_fold_axial_dim": 1000000000000})",
             "hybrid_fold_axial_dim: expected 100000000 or less"},
        Case{R"({"hybrid_module": {"type": "MinGRU", "dim": 16, "dim_out": 1000000000000},
                             "hybrid_fold_axial_dim": 1})",
             "hybrid_module.dim_out: expected 100000000 or less"},
        Case{R"({"hybrid_module": "MinGRU", "hybrid_fold_axial_dim": 1})",
             "hybrid_module.dim: is needed"},
        Case{R"({"dim_out": 9223372036854775807})",
             "dim_out: expected 100000000 or less, got 9223372036854775807"},
        Case{R"({"kv_heads": 3})", "config.kv_heads: expected a divisor of heads = 4, got 3"},
        Case{R"({"use_latent_kv": true, "dim_latent_kv": 6, "kv_heads": 2,
                             "latent_rope_subheads": 4})",
             "latent_rope_subheads: expected at most kv_heads = 2, got 4"},
        Case{R"({"num_mem_kv": -1})", "num_mem_kv: expected 0 or more, got -1"}));

class RefusedFeedForward : public Refused {};
TEST_P(RefusedFeedForward, NamesTheRule) {
  expect(Json::parse(R"({"type": "FeedForward", "dim": 16})"));
}
INSTANTIATE_TEST_SUITE_P(
    All, RefusedFeedForward,
    testing::Values(Case{R"({"dim": 0})", "config.dim: expected a positive number, got 0"},
                    Case{R"({"dim_out": -1})",
                         "config.dim_out: expected a positive number, got -1"},
                    Case{R"({"mult": 0})", "config.mult: 0 leaves no hidden features"},
                    Case{R"({"mult": 1e13})", "config.mult: expected 100000000 hidden features"},
                    Case{R"({"relu_squared": true, "solu": true})",
                         "config: relu_squared and solu: at most one of them"},
                    Case{R"({"dropout": 1.5})", "config.dropout: expected a number in [0, 1]"}));

class RefusedPool : public Refused {};
TEST_P(RefusedPool, NamesTheRule) {
  expect(Json::parse(R"({"type": "AttentionPool", "dim": 16, "heads": 2, "dim_head": 8})"));
}
INSTANTIATE_TEST_SUITE_P(
    All, RefusedPool,
    testing::Values(
        Case{R"({"squeeze_output": true, "num_pooled_tokens": 2})",
             "squeeze_output: needs num_pooled_tokens"},
        Case{R"({"depth": 2, "use_transformer_blocks": false})", "depth: more than 1 needs"},
        Case{R"({"depth": 2, "add_residual": true})", "add_residual: whole blocks"},
        Case{R"({"attn_kwargs": {"kv_heads": 3}})",
             "config.attn_kwargs.kv_heads: expected a divisor of heads = 2, got 3"},
        Case{R"({"attn_kwargs": {"qk_norm": true, "qk_norm_groups": 3}})",
             "attn_kwargs.qk_norm_groups: expected a divisor of dim_head = 8, got 3"},
        Case{R"({"attn_kwargs": {"heads": 4}})", "attn_kwargs.heads: is the pool's own heads"},
        Case{R"({"dim_context": 0})", "dim_context: expected a positive number, got 0"},
        Case{R"({"depth": 2, "dim_head": 0})",
             "config.dim_head: expected a positive number, got 0"},
        Case{R"({"depth": 1000000000})", "depth: expected 10000 or less"},
        Case{R"({"heads": 1000000000000})", "heads: expected 100000000 or less"},
        Case{R"({"num_pooled_tokens": 0})",
             "num_pooled_tokens: expected a positive number, got 0"}));

class RefusedVision : public Refused {};
TEST_P(RefusedVision, NamesTheRule) {
  expect(Json::parse(
      R"({"type": "ViTransformerWrapper", "image_size": 8, "patch_size": 4, "attn_layers":
      {"type": "Encoder", "dim": 16, "depth": 1, "heads": 2}})"));
}
INSTANTIATE_TEST_SUITE_P(
    All, RefusedVision,
    testing::Values(
        Case{R"({"patch_size": 3})", "patch_size: expected a divisor of image_size = 8, got 3"},
        Case{R"({"image_size": 0})", "image_size: expected a positive number, got 0"},
        Case{R"({"patch_size": 0})", "patch_size: expected a positive number, got 0"},
        Case{R"({"image_size": 1000000000000})", "image_size: expected 100000000 or less"},
        Case{R"({"image_size": 100000000, "patch_size": 100000000})",
             "patch_size: 10000000000000000 pixels of channels = 3 are more than"},
        Case{R"({"channels": 1000000000000})", "channels: expected 100000000 or less"},
        Case{R"({"num_classes": 1000000000000})", "num_classes: expected 100000000 or less"},
        Case{R"({"num_register_tokens": 1000000000000})",
             "num_register_tokens: expected 100000000 or less"},
        Case{R"({"channels": 0})", "channels: expected a positive number, got 0"},
        Case{R"({"num_classes": 0})", "num_classes: expected a positive number, got 0"},
        Case{R"({"num_register_tokens": -1})", "num_register_tokens: expected 0 or more, got -1"}));

class RefusedWrapper : public Refused {};
TEST_P(RefusedWrapper, NamesTheRule) {
  expect(Json::parse(
      R"({"type": "AutoregressiveWrapper", "net": {"type": "TransformerWrapper", "num_tokens": 17,
      "max_seq_len": 16, "attn_layers": {"type": "Decoder", "dim": 16, "depth": 1, "heads": 2}}})"));
}
INSTANTIATE_TEST_SUITE_P(
    All, RefusedWrapper,
    testing::Values(Case{R"({"mask_prob": 1})", "mask_prob: expected a number in [0, 1), got 1"},
                    Case{R"({"mask_prob": -0.1})", "mask_prob: expected a number in [0, 1)"},
                    Case{R"({"net": {"return_only_embed": true}})",
                         "net.return_only_embed: leaves no logits of each token"}));

class RefusedPair : public Refused {};
TEST_P(RefusedPair, NamesTheRule) {
  expect(Json::parse(
      R"({"type": "XTransformer", "dim": 16, "enc_num_tokens": 17, "enc_max_seq_len": 16, "enc_depth": 1,
      "enc_heads": 2, "dec_num_tokens": 19, "dec_max_seq_len": 16, "dec_depth": 1, "dec_heads": 2})"));
}
INSTANTIATE_TEST_SUITE_P(
    All, RefusedPair,
    testing::Values(
        Case{R"({"dec_depth": -1})", "config.dec_depth: expected 0 or more, got -1"},
        Case{R"({"dim": 0})", "config.dim: expected a positive number, got 0"},
        Case{R"({"enc_num_tokens": 0})", "config.enc_num_tokens: expected a positive number"},
        Case{R"({"dec_heads": 0})", "config.dec_heads: expected a positive number"},
        Case{R"({"dec_attn_kv_heads": 3})",
             "config.dec_attn_kv_heads: expected a divisor of dec_heads = 2, got 3"},
        Case{R"({"dec_cross_attn_kv_heads": 3})",
             "config.dec_cross_attn_kv_heads: expected a divisor of dec_heads = 2, got 3"},
        Case{R"({"enc_attn_sigmoid": true, "enc_attn_hard": true})",
             "config: enc_attn_sigmoid, enc_attn_hard, enc_attn_l2_distance,"},
        Case{R"({"enc_depth": null})", "config.enc_depth: is needed (or enc_custom_layers)"},
        Case{R"({"enc_dim": 16})", "enc_dim: unknown key"},
        Case{R"({"dec_dim": 16})", "dec_dim: unknown key"}));

/// A config that lacks what its type needs.
class RefusedWithout : public testing::TestWithParam<Case> {};
TEST_P(RefusedWithout, SaysWhatIsNeeded) {
  EXPECT_EQ(refusal(Json::parse(GetParam().changes)), GetParam().message);
}
INSTANTIATE_TEST_SUITE_P(
    All, RefusedWithout,
    testing::Values(
        Case{R"({"type": "AutoregressiveWrapper"})", "config.net: is needed"},
        Case{
            R"({"type": "TransformerWrapper", "num_tokens": 9, "attn_layers": {"dim": 8, "depth": 1}})",
            "config.max_seq_len: is needed"},
        Case{
            R"({"type": "TransformerWrapper", "max_seq_len": 9, "attn_layers": {"dim": 8, "depth": 1}})",
            "config.num_tokens: is needed"},
        Case{R"({"type": "TransformerWrapper", "num_tokens": 9, "max_seq_len": 9})",
             "config.attn_layers: is needed"},
        Case{
            R"({"type": "TransformerWrapper", "num_tokens": 9, "max_seq_len": 9, "attn_layers": {}})",
            "config.attn_layers.dim: is needed"},
        Case{
            R"({"type": "ViTransformerWrapper", "patch_size": 4, "attn_layers": {"dim": 8, "depth": 1}})",
            "config.image_size: is needed"},
        Case{
            R"({"type": "ViTransformerWrapper", "image_size": 4, "attn_layers": {"dim": 8, "depth": 1}})",
            "config.patch_size: is needed"},
        Case{
            R"({"type": "XTransformer", "enc_num_tokens": 9, "enc_max_seq_len": 9, "dec_num_tokens": 9,
                 "dec_max_seq_len": 9})",
            "config.dim: is needed"},
        Case{R"({"type": "XTransformer", "dim": 8, "enc_num_tokens": 9, "enc_max_seq_len": 9,
                 "dec_num_tokens": 9})",
             "config.dec_max_seq_len: is needed"},
        Case{R"({"type": "XTransformer", "dim": 8, "enc": {"num_tokens": 9}, "dec_num_tokens": 9,
                 "dec_max_seq_len": 9})",
             "config.enc_max_seq_len: is needed"},
        Case{R"({"type": "FeedForward"})", "config.dim: is needed"},
        Case{R"({"type": "Linear", "in_features": 3})", "config.out_features: is needed"},
        Case{R"({"type": "CoPE", "dim": 3, "heads": 2})", "config.max_pos: is needed"}));

/// Sizes that are each allowed, and together more than memory or than 64 bits count.
class TooLarge : public testing::TestWithParam<Case> {};
TEST_P(TooLarge, NamesThePart) {
  try {
    build_model(Json::parse(GetParam().changes));
    FAIL();
  } catch (const RunError& error) {
    EXPECT_EQ(std::string(error.what()).find(GetParam().message), 0) << "got " << error.what();
  }
}
INSTANTIATE_TEST_SUITE_P(
    All, TooLarge,
    testing::Values(
        Case{
            R"({"type": "Attention", "dim": 100000000, "heads": 100000000, "dim_head": 100000000})",
            "config: out of memory: a tensor of more bytes than 64 bits count"},
        Case{R"({"type": "Linear", "in_features": 100000000, "out_features": 100000000})",
             "config: out of memory: you tried to allocate 40000000000000000 bytes"},
        Case{R"({"type": "AutoregressiveWrapper", "net": {"type": "TransformerWrapper",
                 "num_tokens": 9, "max_seq_len": 9, "attn_layers": {"type": "Decoder",
                 "dim": 10000000, "depth": 1, "heads": 100000000}}})",
             "config.net.attn_layers: out of memory: "},
        Case{
            R"({"type": "XTransformer", "dim": 10000000, "enc_num_tokens": 9, "enc_max_seq_len": 9,
                 "enc_depth": 1, "enc_heads": 100000000, "dec_num_tokens": 9, "dec_max_seq_len": 9,
                 "dec_depth": 1})",
            "config.enc: out of memory: "}));

/// A call that a small model with `changes` cannot take, of tokens and `kwargs`.
struct Call {
  const char* changes;
  std::vector<std::string> names;  ///< of inputs beside x
  const char* kwargs;
  const char* message;
};

void PrintTo(const Call& item, std::ostream* out) { *out << item.message; }

class RefusedCall : public testing::TestWithParam<Call> {};
TEST_P(RefusedCall, NamesTheRule) {
  auto config = Json::parse(
      R"({"type": "TransformerWrapper", "num_tokens": 17, "max_seq_len": 16, "attn_layers":
      {"type": "Decoder", "dim": 16, "depth": 2, "heads": 4, "attn_dim_head": 8}})");
  config.merge_patch(Json::parse(GetParam().changes));
  const auto model = build_model(config);
  model->module().eval();
  TensorMap inputs = {{"x", at::ones({2, 5}, at::kLong)}};
  for (const auto& name : GetParam().names) inputs[name] = at::zeros({2, 5, 16});
  try {
    run_model(*model, "forward", inputs, Json::parse(GetParam().kwargs), false);
    FAIL();
  } catch (const InputError& error) {
    EXPECT_EQ(std::string(error.what()).find(GetParam().message), 0) << "got " << error.what();
  }
}
INSTANTIATE_TEST_SUITE_P(
    All, RefusedCall,
    testing::Values(
        Call{R"({"token_emb": {"type": "Linear", "in_features": 5, "out_features": 16}})",
             {},
             "{}",
             "token_emb: expected floats for Linear, got Long [2, 5]"},
        Call{R"({"token_emb": {"type": "FeedForward", "dim": 5, "dim_out": 16}})",
             {},
             "{}",
             "token_emb: expected floats for FeedForward, got Long [2, 5]"},
        Call{R"({"token_emb": {"type": "GRU", "input_size": 5, "hidden_size": 16}})",
             {},
             "{}",
             "token_emb: expected floats for GRU, got Long [2, 5]"},
        Call{R"({"token_emb": "Softmax"})",
             {},
             "{}",
             "token_emb: expected floats for Softmax, got Long [2, 5]"},
        Call{R"({"ff_deep_embed": true, "num_memory_tokens": 2})",
             {},
             "{}",
             "ff_deep_embed: has no factors for what is no token"},
        Call{R"({"ff_deep_embed": true, "use_cls_token": true})",
             {},
             "{}",
             "ff_deep_embed: has no factors for what is no token"},
        Call{R"({"attn_layers": {"residual_attn": true, "attn_head_learned_sink": true}})",
             {},
             "{}",
             "prev_attn: has scores of 6 keys, expected 5; head_learned_sink is one more"},
        Call{R"({"attn_layers": {"integrate_layers": true}})",
             {},
             R"({"layers_execute_order": [0, 1, 0, 1]})",
             "attn_layers.integrate_layers: each layer weighs those before it"},
        Call{"{}",
             {},
             R"({"embed_ids": 3})",
             "kwargs.embed_ids: expected tensors among the inputs, named embed_ids.NAME"},
        Call{"{}",
             {},
             R"({"mems": [3]})",
             "kwargs.mems: expected tensors among the inputs, named mems.0, mems.1, ..."},
        Call{"{}",
             {"mems"},
             "{}",
             "inputs.mems: expected tensors among the inputs, named mems.0, mems.1, ..."},
        Call{"{}",
             {"return_mems"},
             "{}",
             "inputs.return_mems: expected a value among the kwargs, got a tensor"},
        Call{"{}", {"mems.1"}, "{}", "inputs: 'mems.0' is needed where there is 'mems.1'"},
        Call{"{}",
             {"mem"},
             "{}",
             "inputs: unknown argument 'mem'; the nearest known one is 'mems'"}));

}  // namespace
}  // namespace x_transformers
