// What options of a stack go together, and what follows from them.
#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <set>
#include <string>
#include <vector>

#include "x_transformers/core/error.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/warning.h"
#include "x_transformers/layers/attention_layers_options.h"
#include "x_transformers/layers/layer_plan.h"

namespace x_transformers {

namespace {

struct KindName {
  LayersKind kind;
  const char* name;
};
constexpr KindName kKindNames[] = {{LayersKind::attention_layers, "AttentionLayers"},
                                   {LayersKind::encoder, "Encoder"},
                                   {LayersKind::decoder, "Decoder"},
                                   {LayersKind::prefix_decoder, "PrefixDecoder"},
                                   {LayersKind::cross_attender, "CrossAttender"}};

void at_most_one(std::initializer_list<bool> set, const std::string& names) {
  require(std::count(set.begin(), set.end(), true) <= 1, names + ": at most one of them");
}

void check_sizes(const AttentionLayersOptions& o) {
  require_size(o.dim, "dim");
  require_at_least(o.depth, 0, "depth");
  require_at_most(o.depth, kMostModules, "depth");
  // Without attention none of a head's features is as good as some.
  require_at_most(o.heads, kLargestSize, "heads");
  require_at_most(o.attn.dim_head, kLargestSize, "attn_dim_head");
  if (o.attn.dim_head != 0) require_positive(o.attn.dim_head, "attn_dim_head");
  require_size(o.num_residual_streams, "num_residual_streams");
  const bool needs_condition =
      o.use_adaptive_layernorm || o.use_adaptive_rmsnorm || o.use_adaptive_layerscale;
  if (needs_condition) require_size(o.dim_condition, "dim_condition");
  if (needs_condition && o.adaptive_condition_mlp)
    require_size(o.adaptive_condition_mlp_expansion, "adaptive_condition_mlp_expansion");
  if (o.alibi_pos_bias) require_positive(o.alibi_num_heads, "alibi_num_heads");
  if (o.rel_pos_bias) require_at_most(o.rel_pos_num_buckets, kLargestSize, "rel_pos_num_buckets");
  if (o.dynamic_pos_bias) {
    require_modules(o.dynamic_pos_bias_mlp_depth, "dynamic_pos_bias_mlp_depth");
    require(o.dim >= 4, fmt::format("dynamic_pos_bias: needs a dim of 4 or more, got {}", o.dim));
  }
}

void check_positions(const AttentionLayersOptions& o) {
  at_most_one({o.rotary_pos_emb, o.polar_pos_emb}, "rotary_pos_emb and polar_pos_emb");
  at_most_one({o.alibi_pos_bias, o.rel_pos_bias, o.dynamic_pos_bias},
              "alibi_pos_bias, rel_pos_bias and dynamic_pos_bias");
  at_most_one({o.alibi_pos_bias, o.rel_pos_bias, o.attn.data_dependent_alibi},
              "alibi_pos_bias, rel_pos_bias and attn_data_dependent_alibi");
  require(!o.rotary_xpos || o.causal, "rotary_xpos: needs a causal stack (Decoder)");
  const auto rotary_dim = o.rotary_emb_dim.value_or(o.attn.dim_head / 2);
  require(rotary_dim <= o.attn.dim_head,
          fmt::format("rotary_emb_dim: {} is more than attn_dim_head = {}", rotary_dim,
                      o.attn.dim_head));
  if (o.rotary_pos_emb) {
    require_at_least(rotary_dim, 0, "rotary_emb_dim");  // 0 turns nothing
    // An odd one turns the pair that it begins.
    require(rotary_dim + rotary_dim % 2 <= o.attn.dim_head,
            fmt::format("rotary_emb_dim: {} turns pairs of features, and the last has one in "
                        "attn_dim_head = {}",
                        rotary_dim, o.attn.dim_head));
    require(o.rotary_interpolation_factor >= 1.0,
            fmt::format("rotary_interpolation_factor: expected 1 or more, got {}",
                        o.rotary_interpolation_factor));
    require_positive(o.rotary_base_rescale_factor, "rotary_base_rescale_factor");
  }
  if (o.rotary_xpos) require_positive(o.rotary_xpos_scale_base, "rotary_xpos_scale_base");
  // Half of the buckets hold one distance each; without causality there are as many for the other
  // direction.
  if (o.rel_pos_bias)
    require_at_least(o.rel_pos_num_buckets, o.causal ? 2 : 4, "rel_pos_num_buckets");
  require(o.rel_pos_num_buckets <= o.rel_pos_max_distance,
          "rel_pos_num_buckets: must not exceed rel_pos_max_distance");
  require(!o.alibi_pos_bias || o.alibi_num_heads.value_or(o.heads) <= o.heads,
          "alibi_num_heads: must not exceed heads");
  require(!o.polar_pos_emb || !o.attn.use_cope,
          "polar_pos_emb and attn_use_cope: at most one of them, as polar queries do not fit "
          "contextual positions");
}

void check_norms(const AttentionLayersOptions& o) {
  if (o.softclamp_output) require_positive(o.softclamp_output_value, "softclamp_output_value");
  at_most_one({o.use_scalenorm, o.use_rmsnorm, o.use_dynamic_tanh, o.use_derf, o.use_simple_rmsnorm,
               o.use_adaptive_layernorm, o.use_adaptive_rmsnorm},
              "use_scalenorm, use_rmsnorm, use_dynamic_tanh, use_derf, use_simple_rmsnorm, "
              "use_adaptive_layernorm "
              "and use_adaptive_rmsnorm");
  at_most_one({o.use_layerscale, o.use_adaptive_layerscale},
              "use_layerscale and use_adaptive_layerscale");
  require(o.pre_norm || !o.sandwich_norm, "sandwich_norm: needs pre_norm");
  require(o.pre_norm || !o.use_dynamic_tanh, "use_dynamic_tanh: needs pre_norm");
  const auto not_beside_resi_dual = [&](const char* name, bool is_on) {
    require(!o.resi_dual || !is_on, fmt::format("resi_dual and {}: only one of them", name));
  };
  not_beside_resi_dual("sandwich_norm", o.sandwich_norm);
  not_beside_resi_dual("use_dynamic_tanh", o.use_dynamic_tanh);
  not_beside_resi_dual("num_residual_streams", o.num_residual_streams > 1);
  not_beside_resi_dual("gate_residual", o.gate_residual);
  not_beside_resi_dual("scale_residual", o.scale_residual);
  not_beside_resi_dual("unet_skips", o.unet_skips);
  not_beside_resi_dual("softclamp_output", o.softclamp_output);
  require(!o.resi_dual || o.pre_norm_has_final_norm,
          "pre_norm_has_final_norm: resi_dual needs its final norm");
  require(o.resi_dual || o.resi_dual_scale == 1, "resi_dual_scale: needs resi_dual");
  require(o.resi_dual_scale > 0 && o.resi_dual_scale <= 1,
          fmt::format("resi_dual_scale: expected a number above 0 and at most 1, got {}",
                      o.resi_dual_scale));
}

void check_order(const AttentionLayersOptions& o) {
  for (const double dropout : o.layer_dropout.values) require_probability(dropout, "layer_dropout");
  for (const auto shift : o.shift_tokens.values) {
    require_at_least(shift, 0, "shift_tokens");
    const auto most = (o.dim - 1) / (o.causal ? 1 : 2);  // a part of the features for each shift
    require(shift <= most,
            fmt::format("shift_tokens: {} cuts dim = {} into too many parts", shift, o.dim));
  }
  require_probability(o.cross_attn_tokens_dropout, "cross_attn_tokens_dropout");
  require(!(o.layers_execute_order && o.custom_layers && o.depth),
          "layers_execute_order, custom_layers and depth: not all three");
  require(!o.weight_tie_layers ||
              !(o.custom_layers || o.par_ratio || o.sandwich_coef || o.layers_execute_order),
          "weight_tie_layers: not with custom_layers, par_ratio, sandwich_coef or "
          "layers_execute_order");
  require(!o.weight_tie_layers || o.depth, "weight_tie_layers: needs depth");
  require(!o.unet_skips || o.custom_layers || !(o.par_ratio || o.sandwich_coef),
          "unet_skips: par_ratio and sandwich_coef leave no blocks to mirror, so not beside them");
  require(o.num_residual_streams == 1 || !o.gate_residual,
          "num_residual_streams and gate_residual: only one of them");
}

void check_residual_arguments(const AttentionLayersOptions& o, const LayerPlan& plan) {
  const auto& given = o.residual_fn_kwargs;
  if (o.num_residual_streams == 1) return;
  const bool has_views = o.qkv_receive_diff_residuals && !o.integrate_layers;
  for (const auto& step : plan.layers) {
    const int64_t views = has_views && step.type == LayerType::attention ? 3 : 1;
    require(given.num_input_views.value_or(views) == views,
            fmt::format("residual_fn_kwargs.num_input_views: expected {}, what each branch takes, "
                        "got {}",
                        views, given.num_input_views.value_or(views)));
  }
  const auto streams = given.num_residual_streams.value_or(o.num_residual_streams);
  require(streams == o.num_residual_streams,
          fmt::format("residual_fn_kwargs.num_residual_streams: expected num_residual_streams = "
                      "{}, got {}",
                      o.num_residual_streams, streams));
}

/// Cross attention takes attention's options but for what belongs to one causal sequence; where
/// there is no other attention, these were given for it.
AttentionOptions as_cross_attention(AttentionOptions attn, LayersKind kind) {
  if (kind == LayersKind::cross_attender) return attn;
  attn.causal = false;
  attn.rotate_num_heads.reset();
  attn.selective = attn.use_cope = false;
  return attn;
}

/// What is said of the options of one attention.
std::vector<std::string> complaints(const AttentionOptions& options) {
  auto messages = unused_options(options);
  try {
    validate(options);
  } catch (const InputError& error) {
    messages.emplace_back(error.what());
  }
  return messages;
}

/// The names of `message` as the stack spells them.
template <class BlockOptions>
std::string spelled(const std::string& prefix, const BlockOptions& options,
                    const std::string& message) {
  // What the stack has under the same name, and causal, which messages use as a word.
  const std::set<std::string> same = {"dim", "heads", "causal"};
  auto owners = same;
  if (prefix == "attn_") {
    owners.insert({"qkv_receive_diff_residuals", "learned_value_residual_mix", "rotate_num_heads"});
  }
  return with_prefix(prefix, options, owners, message);
}

void check_views(const AttentionLayersOptions& o) {
  require(!o.qkv_receive_diff_residuals || o.integrate_layers || o.num_residual_streams > 1,
          "qkv_receive_diff_residuals: needs num_residual_streams > 1 or integrate_layers");
}

}  // namespace

std::string spelled_by_stack(const AttentionLayersOptions& o, LayerType type,
                             const std::string& message) {
  if (type == LayerType::feed_forward) return spelled("ff_", o.ff, message);
  if (type == LayerType::attention) return spelled("attn_", o.attn, message);
  // Of an option that cross attention has from attention, the name that was given is attention's.
  const auto of_attention = complaints(as_cross_attention(o.attn, o.kind));
  const bool is_of_attention =
      std::find(of_attention.begin(), of_attention.end(), message) != of_attention.end();
  return spelled(is_of_attention ? "attn_" : "cross_attn_", *o.cross_attn, message);
}

std::vector<std::string> AttentionLayersOptions::type_names() {
  std::vector<std::string> names;
  for (const auto& entry : kKindNames) names.emplace_back(entry.name);
  return names;
}

void AttentionLayersOptions::set_type(const std::string& name) {
  for (const auto& entry : kKindNames) {
    if (name == entry.name) kind = entry.kind;
  }
}

std::string AttentionLayersOptions::type_name() const {
  for (const auto& entry : kKindNames) {
    if (kind == entry.kind) return entry.name;
  }
  return {};
}

AttentionLayersOptions resolve(AttentionLayersOptions o) {
  const bool may_be_either =
      o.kind == LayersKind::attention_layers || o.kind == LayersKind::cross_attender;
  if (!may_be_either) o.causal = o.kind == LayersKind::decoder;
  if (o.kind == LayersKind::cross_attender) o.cross_attend = o.only_cross = true;
  o.rotary_pos_emb = o.rotary_pos_emb || o.rotary_xpos;
  o.attn.dim = o.ff.dim = o.dim;
  o.attn.heads = o.heads;
  o.attn.compat = o.ff.compat = o.compat;
  if (o.zero_init_branch_output) o.attn.zero_init_output = o.ff.zero_init_output = true;

  auto cross = o.cross_attn.value_or(as_cross_attention(o.attn, o.kind));
  cross.dim = o.dim;
  cross.heads = o.heads;
  cross.compat = o.compat;
  if (!cross.causal) cross.selective = cross.use_cope = false;
  if (o.zero_init_branch_output) cross.zero_init_output = true;
  o.cross_attn = cross;

  o.attn.causal = o.causal;
  o.attn.rotate_num_heads = o.rotate_num_heads;
  return o;
}

void validate(const AttentionLayersOptions& o) {
  check_sizes(o);
  check_positions(o);
  check_norms(o);
  check_order(o);
  const auto plan = plan_layers(o);
  check_residual_arguments(o, plan);
  // As in Python, options of layers that there are not may contradict each other.
  const auto check = [&](LayerType type, const auto& block_options) {
    if (plan.count(type) > 0)
      make_spelled([&](const std::string& message) { return spelled_by_stack(o, type, message); },
                   [&] {
                     validate(block_options);
                     require(block_options.dim_out.value_or(o.dim) == o.dim,
                             fmt::format("dim_out: the residual has dim = {}, got {}", o.dim,
                                         block_options.dim_out.value_or(0)));
                   });
  };
  if (plan.count(LayerType::attention) > 0) check_views(o);
  check(LayerType::attention, o.attn);
  check(LayerType::cross_attention, *o.cross_attn);
  check(LayerType::feed_forward, o.ff);
}

}  // namespace x_transformers
