// Options that exclude each other and values out of range: each rule has a case that breaks it
// alone, and the message names what was given.
#include <gtest/gtest.h>

#include <string>

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
             "config: attn_layers.depth: expected a positive number, got -2"},
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
        Case{R"({"tie_embedding": true, "emb_dim": 8})", "tie_embedding: needs emb_dim = dim"},
        Case{R"({"scaled_sinu_pos_emb": true, "attn_layers": {"dim": 15}})",
             "scaled_sinu_pos_emb: expected an even"},
        Case{R"({"shift_mem_down": -1})", "shift_mem_down: expected 0 or more, got -1"},
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
        Case{R"({"tie_embedding": true, "to_logits": {"type": "Linear", "in_features": 16,
                 "out_features": 17}})",
             "to_logits: not with tie_embedding"},
        Case{R"({"attn_layers": {"unet_skips": true, "depth": 1}})", "unet_skips: needs a depth"},
        Case{R"({"attn_layers": {"depth": null}})", "depth: is needed (or custom_layers)"},
        Case{R"({"attn_layers": {"par_ratio": 1}})", "par_ratio: expected 2 to 4, got 1"},
        Case{R"({"emb_dropout": 1})", "emb_dropout: expected a number in [0, 1), got 1"}));

class RefusedLayers : public Refused {};
TEST_P(RefusedLayers, NamesTheRule) {
  expect(
      Json::parse(R"({"type": "Decoder", "dim": 16, "depth": 4, "heads": 4, "attn_dim_head": 8})"));
}
INSTANTIATE_TEST_SUITE_P(
    All, RefusedLayers,
    testing::Values(
        Case{R"({"layer_dropout": 1})", "layer_dropout: expected a number in [0, 1), got 1"},
        Case{R"({"layer_dropout": [0, 0, 0, 0, 0, 0, 0, -0.5]})",
             "layer_dropout: expected a number in [0, 1), got -0.5"},
        Case{R"({"cross_attn_tokens_dropout": 1})",
             "cross_attn_tokens_dropout: expected a number in [0, 1), got 1"},
        Case{R"({"shift_tokens": -1})", "shift_tokens: expected 0 or more, got -1"},
        Case{R"({"shift_tokens": 1000000000})", "shift_tokens: 1000000000 cuts dim ="},
        Case{R"({"alibi_pos_bias": true, "alibi_num_heads": -1})",
             "alibi_num_heads: expected a positive number, got -1"},
        Case{R"({"alibi_pos_bias": true, "alibi_num_heads": 5})",
             "alibi_num_heads: must not exceed heads"},
        Case{R"({"rotary_pos_emb": true, "rotary_emb_dim": 0})",
             "rotary_emb_dim: expected a positive number, got 0"},
        Case{R"({"rotary_pos_emb": true, "attn_dim_head": 5, "rotary_emb_dim": 5})",
             "rotary_emb_dim: 5 turns pairs of features"},
        Case{R"({"rel_pos_num_buckets": 0})", "rel_pos_num_buckets: expected 1 or more, got 0"},
        Case{R"({"rel_pos_bias": true, "rel_pos_num_buckets": 1})",
             "rel_pos_num_buckets: expected 2 or more, got 1"},
        Case{R"({"type": "Encoder", "rel_pos_bias": true, "rel_pos_num_buckets": 3})",
             "rel_pos_num_buckets: expected 4 or more, got 3"},
        Case{R"({"attn_max_attend_past": -1})", "max_attend_past: expected 0 or more, got -1"},
        Case{R"({"attn_value_dim_head": -8})",
             "value_dim_head: expected a positive number, got -8"},
        Case{R"({"attn_dim_context": 0})", "dim_context: expected a positive number, got 0"},
        Case{R"({"attn_use_cope": true, "attn_cope_max_pos": 0})",
             "cope_max_pos: expected a positive number, got 0"},
        Case{R"({"attn_gumbel_softmax": true, "attn_gumbel_softmax_temp": 0})",
             "gumbel_softmax_temp: expected a positive number, got 0"},
        Case{R"({"attn_laser": true, "attn_laser_softclamp_value": 0})",
             "laser_softclamp_value: expected a positive number, got 0"},
        Case{R"({"attn_sublayer_dropout": 1})",
             "sublayer_dropout: expected a number in [0, 1), got 1"},
        Case{R"({"softclamp_output": true, "softclamp_output_value": 0})",
             "softclamp_output_value: expected a positive number, got 0"},
        Case{R"({"rotary_xpos": true, "rotary_xpos_scale_base": 0})",
             "rotary_xpos_scale_base: expected a positive number, got 0"},
        Case{R"({"use_adaptive_layernorm": true, "dim_condition": 0})",
             "dim_condition: expected a positive number, got 0"},
        Case{R"({"polar_pos_emb": true, "attn_use_cope": true})",
             "polar_pos_emb and attn_use_cope: at most one"},
        Case{R"({"dynamic_pos_bias": true, "dynamic_pos_bias_mlp_depth": 0})",
             "dynamic_pos_bias_mlp_depth: expected at least 1"},
        Case{
            R"({"type": "Encoder", "attn_data_dependent_alibi": true, "attn_data_dependent_alibi_per_row": true})",
            "data_dependent_alibi_per_row: needs causal"},
        Case{R"({"par_ratio": 2, "cross_attend": true})",
             "par_ratio: a block of 2 layers is too large"},
        Case{R"({"depth": 1000000000})", "depth: expected 10000 or less, got 1000000000"},
        Case{R"({"dim": 1000000000})", "dim: expected 100000000 or less, got 1000000000"},
        Case{R"({"attn": [1]})", "config.attn: expected an object, got [1]"},
        Case{R"({"weight_tie_layers": true, "depth": null})", "weight_tie_layers: needs depth"},
        Case{R"({"weight_tie_layers": true, "layers_execute_order": [0, 1]})",
             "weight_tie_layers: not with"}));

class RefusedAttention : public Refused {};
TEST_P(RefusedAttention, NamesTheRule) {
  expect(Json::parse(R"({"type": "Attention", "dim": 16, "heads": 4, "dim_head": 8})"));
}
INSTANTIATE_TEST_SUITE_P(
    All, RefusedAttention,
    testing::Values(Case{R"({"hybrid_module": {"type": "MinGRU", "dim": 16, "dim_out": 32}})",
                         "hybrid_module: needs hybrid_fold_axial_dim"},
                    Case{R"({"hybrid_learned_mix": true})", "need hybrid_module"},
                    Case{R"({"use_latent_kv": true, "dim_latent_kv": 6,
                             "qkv_receive_diff_residuals": true})",
                         "use_latent_kv and qkv_receive_diff_residuals: only one"},
                    Case{R"({"use_latent_kv": true, "dim_latent_kv": 6, "latent_rope_subheads": 2,
                             "rotate_num_heads": 2})",
                         "latent_rope_subheads and rotate_num_heads"},
                    Case{R"({"use_latent_kv": true, "dim_latent_kv": 0})",
                         "dim_latent_kv: expected a positive"},
                    Case{R"({"use_latent_q": true, "dim_latent_q": 0})",
                         "dim_latent_q: expected a positive"},
                    Case{R"({"dim_out": 0})", "dim_out: expected a positive number, got 0"},
                    Case{R"({"sparse_topk": 0})", "sparse_topk: expected a positive number, got 0"},
                    Case{R"({"num_mem_kv": -1})", "num_mem_kv: expected 0 or more, got -1"}));

class RefusedPool : public Refused {};
TEST_P(RefusedPool, NamesTheRule) {
  expect(Json::parse(R"({"type": "AttentionPool", "dim": 16, "heads": 2, "dim_head": 8})"));
}
INSTANTIATE_TEST_SUITE_P(
    All, RefusedPool,
    testing::Values(Case{R"({"squeeze_output": true, "num_pooled_tokens": 2})",
                         "squeeze_output: needs num_pooled_tokens"},
                    Case{R"({"depth": 2, "use_transformer_blocks": false})",
                         "depth: more than 1 needs"},
                    Case{R"({"depth": 2, "add_residual": true})", "add_residual: whole blocks"},
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
    testing::Values(Case{R"({"patch_size": 3})", "patch_size: 3 does not divide image_size = 8"},
                    Case{R"({"channels": 0})", "channels: expected a positive number, got 0"},
                    Case{R"({"num_classes": 0})", "num_classes: expected a positive number, got 0"},
                    Case{R"({"num_register_tokens": -1})",
                         "num_register_tokens: expected 0 or more, got -1"}));

class RefusedWrapper : public Refused {};
TEST_P(RefusedWrapper, NamesTheRule) {
  expect(Json::parse(
      R"({"type": "AutoregressiveWrapper", "net": {"type": "TransformerWrapper", "num_tokens": 17,
      "max_seq_len": 16, "attn_layers": {"type": "Decoder", "dim": 16, "depth": 1, "heads": 2}}})"));
}
INSTANTIATE_TEST_SUITE_P(
    All, RefusedWrapper,
    testing::Values(Case{R"({"mask_prob": 1})", "mask_prob: expected a number in [0, 1), got 1"},
                    Case{R"({"mask_prob": -0.1})", "mask_prob: expected a number in [0, 1)"}));

class RefusedPair : public Refused {};
TEST_P(RefusedPair, NamesTheRule) {
  expect(Json::parse(
      R"({"type": "XTransformer", "dim": 16, "enc_num_tokens": 17, "enc_max_seq_len": 16, "enc_depth": 1,
      "enc_heads": 2, "dec_num_tokens": 19, "dec_max_seq_len": 16, "dec_depth": 1, "dec_heads": 2})"));
}
INSTANTIATE_TEST_SUITE_P(All, RefusedPair,
                         testing::Values(Case{R"({"dec_depth": 0})",
                                              "dec.attn_layers.depth: expected a positive number"},
                                         Case{R"({"enc_dim": 16})", "unknown key 'enc_dim'"},
                                         Case{R"({"dec_dim": 16})", "unknown key 'dec_dim'"},
                                         Case{R"({"tie_token_emb": true})",
                                              "tie_token_emb: needs enc_num_tokens"}));

}  // namespace
}  // namespace x_transformers
