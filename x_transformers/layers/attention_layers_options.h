// Options of a stack of layers, and the rules among them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "x_transformers/core/compat.h"
#include "x_transformers/core/options.h"
#include "x_transformers/core/spelling.h"
#include "x_transformers/nn/attention_options.h"
#include "x_transformers/nn/feed_forward_options.h"

namespace x_transformers {

/// Weight of the z-loss of attention where none is given (arXiv:2202.08906), Python's.
inline constexpr double kAttnZLossWeight = 1e-4;

/// Which of Python's stack classes the options stand for.
enum class LayersKind { attention_layers, encoder, decoder, prefix_decoder, cross_attender };

struct RelPosOptions {
  /// ALiBi's slopes, one for each head; default: the paper's
  std::optional<std::vector<double>> slopes = std::nullopt;

  template <class Visitor>
  void fields(Visitor& v) {
    v("slopes", slopes, "ALiBi's slopes, one for each head; default: the paper's");
  }
};

/// What Python hands on to the residual; used with hyper-connections only, and there it must
/// agree with the stack.
struct ResidualFnOptions {
  /// must be what the stack's branches take
  std::optional<int64_t> num_input_views = std::nullopt;
  /// must be the stack's own
  std::optional<int64_t> num_residual_streams = std::nullopt;
  /// has no effect, as hyper_conn_sinkhorn_iters
  std::optional<int64_t> sinkhorn_iters = std::nullopt;

  template <class Visitor>
  void fields(Visitor& v) {
    v("num_input_views", num_input_views, "must be what the stack's branches take");
    v("num_residual_streams", num_residual_streams, "must be the stack's own");
    v("sinkhorn_iters", sinkhorn_iters, "has no effect, as hyper_conn_sinkhorn_iters");
  }
};

/// Options of Encoder, Decoder, PrefixDecoder, CrossAttender and AttentionLayers. `attn`, `ff` and
/// `cross_attn` hold what Python takes with the prefixes attn_, ff_ and cross_attn_.
struct AttentionLayersOptions {
  LayersKind kind = LayersKind::attention_layers;
  /// features of the sequence
  int64_t dim = 0;
  /// blocks of attention and feed-forward
  std::optional<int64_t> depth = std::nullopt;
  /// attention heads
  int64_t heads = 8;
  /// no token sees a later one
  bool causal = false;
  /// cross attention to a context in every block
  bool cross_attend = false;
  /// cross attention in place of self-attention
  bool only_cross = false;
  /// norm with one gain (arXiv:1910.05895)
  bool use_scalenorm = false;
  /// root-mean-square norm (arXiv:1910.07467)
  bool use_rmsnorm = false;
  /// tanh in place of a norm (arXiv:2503.10622)
  bool use_dynamic_tanh = false;
  /// error function in place of a norm (arXiv:2512.10938)
  bool use_derf = false;
  /// start of dynamic tanh's scale
  double dynamic_tanh_init_alpha = 1.0;
  /// root-mean-square norm without gain (arXiv:2307.14995)
  bool use_simple_rmsnorm = false;
  /// layer norm with gain from a condition (arXiv:2212.09748)
  bool use_adaptive_layernorm = false;
  /// RMS norm with gain from a condition
  bool use_adaptive_rmsnorm = false;
  /// branch outputs scaled by a condition (arXiv:2212.09748)
  bool use_adaptive_layerscale = false;
  /// gains stored as offset from one
  bool norm_add_unit_offset = true;
  /// features of the condition; default: dim
  std::optional<int64_t> dim_condition = std::nullopt;
  /// a layer on the condition before it is used
  bool adaptive_condition_mlp = false;
  /// its hidden features, times dim_condition
  int64_t adaptive_condition_mlp_expansion = 4;
  /// scores fall with distance (arXiv:2108.12409)
  bool alibi_pos_bias = false;
  /// heads with ALiBi, from the first; default: all
  std::optional<int64_t> alibi_num_heads = std::nullopt;
  /// T5's learned bias for distances (arXiv:1910.10683)
  bool rel_pos_bias = false;
  /// distances are put into this many buckets
  int64_t rel_pos_num_buckets = 32;
  /// the last bucket begins here
  int64_t rel_pos_max_distance = 128;
  /// a small network from distance to bias (arXiv:2111.09883)
  bool dynamic_pos_bias = false;
  /// the network sees the log of the distance
  bool dynamic_pos_bias_log_distance = false;
  /// hidden layers of the network
  int64_t dynamic_pos_bias_mlp_depth = 2;
  /// layer norms in the network
  bool dynamic_pos_bias_norm = false;
  /// queries and keys rotated by position (arXiv:2104.09864)
  bool rotary_pos_emb = false;
  /// features of a head that are rotated; default: half of dim_head
  std::optional<int64_t> rotary_emb_dim = std::nullopt;
  /// rotary with a decay for length extrapolation (arXiv:2212.10554)
  bool rotary_xpos = false;
  /// positions divided by this (arXiv:2306.15595)
  double rotary_interpolation_factor = 1.0;
  /// length scale of the decay
  double rotary_xpos_scale_base = 512.0;
  /// NTK-aware rescaling of the base
  double rotary_base_rescale_factor = 1.0;
  /// heads, from the last, that are rotated; default: all
  std::optional<int64_t> rotate_num_heads = std::nullopt;
  /// positions as angles of a polar form (arXiv:2509.10534)
  bool polar_pos_emb = false;
  /// its learned bias starts uniform
  bool polar_bias_uniform_init = false;
  /// one block, run depth times (arXiv:1909.11942)
  bool weight_tie_layers = false;
  /// layers by type: a attention, c cross attention, f feed-forward
  std::optional<std::vector<std::string>> custom_layers = std::nullopt;
  /// indices of layers in the order of execution
  std::optional<std::vector<int64_t>> layers_execute_order = std::nullopt;
  /// attentions moved to the front, feed-forwards to the back (arXiv:1911.03864)
  std::optional<int64_t> sandwich_coef = std::nullopt;
  /// part of attention layers, as of PAR (arXiv:2009.04534)
  std::optional<int64_t> par_ratio = std::nullopt;
  /// scores of the last attention are added (arXiv:2012.11747)
  bool residual_attn = false;
  /// the same for cross attention
  bool cross_residual_attn = false;
  /// half feed-forwards on both sides of attention (arXiv:1906.02762)
  bool macaron = false;
  /// norm before each branch (or after each residual) (arXiv:2002.04745)
  bool pre_norm = true;
  /// norm at the end
  bool pre_norm_has_final_norm = true;
  /// GRU gating of the residual (arXiv:1910.06764)
  bool gate_residual = false;
  /// learned factor for each feature of the residual (arXiv:2110.09456)
  bool scale_residual = false;
  /// constant factor of the residual
  double scale_residual_constant = 1.0;
  /// features shifted from this many earlier tokens (arXiv:2305.13048)
  PerLayer<int64_t> shift_tokens = 0;
  /// norm after each branch as well (arXiv:2105.13290)
  bool sandwich_norm = false;
  /// norm after each residual, beside a second residual that is normed at the end only
  /// (arXiv:2304.14802)
  bool resi_dual = false;
  /// factor of the second residual, which keeps it in range in float16
  double resi_dual_scale = 1.0;
  /// output held within a bound by tanh (arXiv:2408.00118)
  bool softclamp_output = false;
  /// the bound of softclamp_output
  double softclamp_output_value = 30.0;
  /// branches start with an output of zero
  bool zero_init_branch_output = false;
  /// probability of leaving out a layer in training (arXiv:1603.09382)
  PerLayer<double> layer_dropout = 0.0;
  /// part of the context left out in training
  double cross_attn_tokens_dropout = 0.0;
  /// no absolute positions; default: with rotary, polar or T5 bias
  std::optional<bool> disable_abs_pos_emb = std::nullopt;
  /// learned factor for each feature of a branch (arXiv:2103.17239)
  bool use_layerscale = false;
  /// start of that factor
  double layerscale_init_value = 0.0;
  /// skips from the first to the second half (arXiv:2210.09561)
  bool unet_skips = false;
  /// layers see a mix of all earlier ones (arXiv:2502.09245)
  bool integrate_layers = false;
  /// softmax over that mix (or ReLU)
  bool layer_integrate_use_softmax = true;
  /// hyper-connections' residual streams (arXiv:2409.19606)
  int64_t num_residual_streams = 1;
  /// queries, keys, values from different mixes
  bool qkv_receive_diff_residuals = false;
  /// the input is added before every layer (arXiv:1909.01377)
  bool reinject_input = false;
  /// gated by the input
  bool learned_reinject_input_gate = false;
  /// the first layer's values are mixed in (arXiv:2410.17897)
  bool add_value_residual = false;
  /// that mix is learned per token
  bool learned_value_residual_mix = true;
  /// further arguments of the position bias: slopes, of ALiBi
  RelPosOptions rel_pos_kwargs = {};
  /// further arguments of the residual
  ResidualFnOptions residual_fn_kwargs = {};
  /// has no effect, as in Python (see docs) (arXiv:2512.24880)
  int64_t hyper_conn_sinkhorn_iters = 5;
  /// accepted for Python's sake: warnings go to the caller of validate
  bool verbose = true;
  /// attention
  AttentionOptions attn = {};
  /// feed-forward
  FeedForwardOptions ff = {};
  /// cross attention; default: as attn, but not causal
  std::optional<AttentionOptions> cross_attn = std::nullopt;
  Compat compat = {};  ///< of the whole model; no option of the class

  /// Whether each call needs a condition.
  bool needs_condition() const {
    return use_adaptive_layernorm || use_adaptive_rmsnorm || use_adaptive_layerscale;
  }

  static std::vector<std::string> type_names();
  void set_type(const std::string& name);
  std::string type_name() const;

  /// Whether tokens see no later ones. Without prefix_attn_len a PrefixDecoder is a decoder.
  bool is_causal() const { return causal || kind == LayersKind::prefix_decoder; }

  template <class Visitor>
  void fields(Visitor& v) {
    v.required("dim", dim, "features of the sequence");
    v.size("depth", depth, "blocks of attention and feed-forward");
    v.size("heads", heads, "attention heads");
    if (kind == LayersKind::attention_layers || kind == LayersKind::cross_attender)
      v("causal", causal, "no token sees a later one");
    if (kind != LayersKind::cross_attender) {
      v("cross_attend", cross_attend, "cross attention to a context in every block");
      v("only_cross", only_cross, "cross attention in place of self-attention");
    }
    norm_fields(v);
    position_fields(v);
    order_fields(v);
    residual_fields(v);
    v.free("layer_dropout", layer_dropout, "probability of leaving out a layer in training",
           "arXiv:1603.09382");
    v.free("cross_attn_tokens_dropout", cross_attn_tokens_dropout,
           "part of the context left out in training");
    v.free("verbose", verbose, "accepted for Python's sake: warnings go to the caller of validate");
    if (kind == LayersKind::cross_attender) {
      v.prefix("attn", attn, "attention", {"dim", "heads", "qkv_receive_diff_residuals"});
    } else {
      v.prefix("attn", attn, "attention",
               {"dim", "heads", "causal", "qkv_receive_diff_residuals",
                "learned_value_residual_mix", "rotate_num_heads"});
    }
    v.prefix("ff", ff, "feed-forward", {"dim"});
    v.prefix_over("cross_attn", cross_attn, attn,
                  "cross attention; default: as attn, but not causal", {"dim", "heads"});
  }

 private:
  template <class Visitor>
  void norm_fields(Visitor& v) {
    v("use_scalenorm", use_scalenorm, "norm with one gain", "arXiv:1910.05895");
    v("use_rmsnorm", use_rmsnorm, "root-mean-square norm", "arXiv:1910.07467");
    v("use_dynamic_tanh", use_dynamic_tanh, "tanh in place of a norm", "arXiv:2503.10622");
    v("use_derf", use_derf, "error function in place of a norm", "arXiv:2512.10938");
    v.free("dynamic_tanh_init_alpha", dynamic_tanh_init_alpha, "start of dynamic tanh's scale");
    v("use_simple_rmsnorm", use_simple_rmsnorm, "root-mean-square norm without gain",
      "arXiv:2307.14995");
    v("use_adaptive_layernorm", use_adaptive_layernorm, "layer norm with gain from a condition",
      "arXiv:2212.09748");
    v("use_adaptive_rmsnorm", use_adaptive_rmsnorm, "RMS norm with gain from a condition");
    v("use_adaptive_layerscale", use_adaptive_layerscale, "branch outputs scaled by a condition",
      "arXiv:2212.09748");
    v("norm_add_unit_offset", norm_add_unit_offset, "gains stored as offset from one");
    v("dim_condition", dim_condition, "features of the condition; default: dim");
    v("adaptive_condition_mlp", adaptive_condition_mlp,
      "a layer on the condition before it is used");
    v("adaptive_condition_mlp_expansion", adaptive_condition_mlp_expansion,
      "its hidden features, times dim_condition");
    v("pre_norm", pre_norm, "norm before each branch (or after each residual)", "arXiv:2002.04745");
    v("pre_norm_has_final_norm", pre_norm_has_final_norm, "norm at the end");
    v("sandwich_norm", sandwich_norm, "norm after each branch as well", "arXiv:2105.13290");
    v("resi_dual", resi_dual,
      "norm after each residual, beside a second residual that is normed at the end only",
      "arXiv:2304.14802");
    v("resi_dual_scale", resi_dual_scale,
      "factor of the second residual, which keeps it in range in float16");
    v("softclamp_output", softclamp_output, "output held within a bound by tanh",
      "arXiv:2408.00118");
    v("softclamp_output_value", softclamp_output_value, "the bound of softclamp_output");
    v.free("zero_init_branch_output", zero_init_branch_output,
           "branches start with an output of zero");
    v("use_layerscale", use_layerscale, "learned factor for each feature of a branch",
      "arXiv:2103.17239");
    v.free("layerscale_init_value", layerscale_init_value, "start of that factor");
  }
  template <class Visitor>
  void position_fields(Visitor& v) {
    v("alibi_pos_bias", alibi_pos_bias, "scores fall with distance", "arXiv:2108.12409");
    v("alibi_num_heads", alibi_num_heads, "heads with ALiBi, from the first; default: all");
    v("rel_pos_bias", rel_pos_bias, "T5's learned bias for distances", "arXiv:1910.10683");
    v("rel_pos_num_buckets", rel_pos_num_buckets, "distances are put into this many buckets");
    v("rel_pos_max_distance", rel_pos_max_distance, "the last bucket begins here");
    v("dynamic_pos_bias", dynamic_pos_bias, "a small network from distance to bias",
      "arXiv:2111.09883");
    v("dynamic_pos_bias_log_distance", dynamic_pos_bias_log_distance,
      "the network sees the log of the distance");
    v("dynamic_pos_bias_mlp_depth", dynamic_pos_bias_mlp_depth, "hidden layers of the network");
    v("dynamic_pos_bias_norm", dynamic_pos_bias_norm, "layer norms in the network");
    v("rotary_pos_emb", rotary_pos_emb, "queries and keys rotated by position", "arXiv:2104.09864");
    v("rotary_emb_dim", rotary_emb_dim,
      "features of a head that are rotated; default: half of dim_head");
    v("rotary_xpos", rotary_xpos, "rotary with a decay for length extrapolation",
      "arXiv:2212.10554");
    v("rotary_interpolation_factor", rotary_interpolation_factor, "positions divided by this",
      "arXiv:2306.15595");
    v("rotary_xpos_scale_base", rotary_xpos_scale_base, "length scale of the decay");
    v("rotary_base_rescale_factor", rotary_base_rescale_factor, "NTK-aware rescaling of the base");
    v("rotate_num_heads", rotate_num_heads, "heads, from the last, that are rotated; default: all");
    v("polar_pos_emb", polar_pos_emb, "positions as angles of a polar form", "arXiv:2509.10534");
    v("polar_bias_uniform_init", polar_bias_uniform_init, "its learned bias starts uniform");
    v("disable_abs_pos_emb", disable_abs_pos_emb,
      "no absolute positions; default: with rotary, polar or T5 bias");
    v("rel_pos_kwargs", rel_pos_kwargs, "further arguments of the position bias: slopes, of ALiBi");
  }
  template <class Visitor>
  void order_fields(Visitor& v) {
    v("weight_tie_layers", weight_tie_layers, "one block, run depth times", "arXiv:1909.11942");
    v("custom_layers", custom_layers,
      "layers by type: a attention, c cross attention, f feed-forward");
    v("layers_execute_order", layers_execute_order, "indices of layers in the order of execution");
    v("sandwich_coef", sandwich_coef, "attentions moved to the front, feed-forwards to the back",
      "arXiv:1911.03864");
    v("par_ratio", par_ratio, "part of attention layers, as of PAR", "arXiv:2009.04534");
    v("macaron", macaron, "half feed-forwards on both sides of attention", "arXiv:1906.02762");
    v("shift_tokens", shift_tokens, "features shifted from this many earlier tokens",
      "arXiv:2305.13048");
    v("unet_skips", unet_skips, "skips from the first to the second half", "arXiv:2210.09561");
    v("integrate_layers", integrate_layers, "layers see a mix of all earlier ones",
      "arXiv:2502.09245");
    v("layer_integrate_use_softmax", layer_integrate_use_softmax,
      "softmax over that mix (or ReLU)");
    v("reinject_input", reinject_input, "the input is added before every layer",
      "arXiv:1909.01377");
    v("learned_reinject_input_gate", learned_reinject_input_gate, "gated by the input");
  }
  template <class Visitor>
  void residual_fields(Visitor& v) {
    v("residual_attn", residual_attn, "scores of the last attention are added", "arXiv:2012.11747");
    v("cross_residual_attn", cross_residual_attn, "the same for cross attention");
    v("gate_residual", gate_residual, "GRU gating of the residual", "arXiv:1910.06764");
    v("scale_residual", scale_residual, "learned factor for each feature of the residual",
      "arXiv:2110.09456");
    v("scale_residual_constant", scale_residual_constant, "constant factor of the residual");
    v("num_residual_streams", num_residual_streams, "hyper-connections' residual streams",
      "arXiv:2409.19606");
    v("qkv_receive_diff_residuals", qkv_receive_diff_residuals,
      "queries, keys, values from different mixes");
    v("hyper_conn_sinkhorn_iters", hyper_conn_sinkhorn_iters,
      "has no effect, as in Python (see docs)", "arXiv:2512.24880");
    v("add_value_residual", add_value_residual, "the first layer's values are mixed in",
      "arXiv:2410.17897");
    v("learned_value_residual_mix", learned_value_residual_mix, "that mix is learned per token");
    v("residual_fn_kwargs", residual_fn_kwargs, "further arguments of the residual");
  }
};

/// The options, with those filled in that follow from others: kind, causality, prefixes.
/// InputError where a block's dim or heads (`attn.heads`) are not those of the stack.
AttentionLayersOptions resolve(AttentionLayersOptions options);

/// Throws InputError for impossible combinations (of resolved options).
void validate(const AttentionLayersOptions& options);

enum class LayerType;
/// How a stack spells the options of its blocks of this type. `options` must outlive the result.
Spelling block_spelling(const AttentionLayersOptions& options, LayerType type);

}  // namespace x_transformers
