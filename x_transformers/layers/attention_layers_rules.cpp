// What options of a stack go together, and what follows from them.
#include <algorithm>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <vector>

#include "x_transformers/core/error.h"
#include "x_transformers/core/option_names.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/spelling.h"
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

struct Switch {
  const char* name;
  bool is_on;
};

void at_most_one(std::initializer_list<Switch> switches) {
  About about;
  int64_t count = 0;
  for (const auto& [name, is_on] : switches) {
    about.options.emplace_back(name);
    count += is_on;
  }
  require(count <= 1, about, "at most one of them");
}

void check_sizes(const AttentionLayersOptions& o) {
  require_size(o.dim, "dim");
  require_at_least(o.depth, 0, "depth");
  require_at_most(o.depth, kMaxModules, "depth");
  // dim_head may be 0 where there is no attention.
  require_at_most(o.heads, kMaxSize, "heads");
  require_at_most(o.attn.dim_head, kMaxSize, "attn_dim_head");
  if (o.attn.dim_head != 0) require_positive(o.attn.dim_head, "attn_dim_head");
  require_size(o.num_residual_streams, "num_residual_streams");
  if (o.needs_condition()) require_size(o.dim_condition, "dim_condition");
  if (o.needs_condition() && o.adaptive_condition_mlp)
    require_size(o.adaptive_condition_mlp_expansion, "adaptive_condition_mlp_expansion");
  if (o.alibi_pos_bias) require_positive(o.alibi_num_heads, "alibi_num_heads");
  if (o.rel_pos_bias) require_at_most(o.rel_pos_num_buckets, kMaxSize, "rel_pos_num_buckets");
  if (o.dynamic_pos_bias) {
    require_modules(o.dynamic_pos_bias_mlp_depth, "dynamic_pos_bias_mlp_depth");
    require(o.dim >= 4, at("dynamic_pos_bias"), "needs a {} of 4 or more, got {}", option("dim"),
            o.dim);
  }
}

void check_positions(const AttentionLayersOptions& o) {
  at_most_one({{"rotary_pos_emb", o.rotary_pos_emb}, {"polar_pos_emb", o.polar_pos_emb}});
  at_most_one({{"alibi_pos_bias", o.alibi_pos_bias},
               {"rel_pos_bias", o.rel_pos_bias},
               {"dynamic_pos_bias", o.dynamic_pos_bias}});
  at_most_one({{"alibi_pos_bias", o.alibi_pos_bias},
               {"rel_pos_bias", o.rel_pos_bias},
               {"attn_data_dependent_alibi", o.attn.data_dependent_alibi}});
  require(!o.rotary_xpos || o.causal, at("rotary_xpos"), "needs a causal stack (Decoder)");
  const auto rotary_dim = o.rotary_emb_dim.value_or(o.attn.dim_head / 2);
  expect(rotary_dim <= o.attn.dim_head, at("rotary_emb_dim"), rotary_dim, "at most {} = {}",
         option("attn_dim_head"), o.attn.dim_head);
  if (o.rotary_pos_emb) {
    require_at_least(rotary_dim, 0, "rotary_emb_dim");  // 0 rotates nothing
    // An odd one rotates the pair that it begins.
    require(rotary_dim + rotary_dim % 2 <= o.attn.dim_head, at("rotary_emb_dim"),
            "{} rotates pairs of features, and the last has one in {} = {}", rotary_dim,
            option("attn_dim_head"), o.attn.dim_head);
    expect(o.rotary_interpolation_factor >= 1.0, at("rotary_interpolation_factor"),
           o.rotary_interpolation_factor, "1 or more");
    require_positive(o.rotary_base_rescale_factor, "rotary_base_rescale_factor");
  }
  if (o.rotary_xpos) require_positive(o.rotary_xpos_scale_base, "rotary_xpos_scale_base");
  // Half of the buckets hold one distance each; without causality there are as many for the other
  // direction.
  if (o.rel_pos_bias)
    require_at_least(o.rel_pos_num_buckets, o.causal ? 2 : 4, "rel_pos_num_buckets");
  require(o.rel_pos_num_buckets <= o.rel_pos_max_distance, at("rel_pos_num_buckets"),
          "must not exceed {} = {}", option("rel_pos_max_distance"), o.rel_pos_max_distance);
  require(!o.alibi_pos_bias || o.alibi_num_heads.value_or(o.heads) <= o.heads,
          at("alibi_num_heads"), "must not exceed {} = {}", option("heads"), o.heads);
  require(!o.polar_pos_emb || !o.attn.use_cope, among({"polar_pos_emb", "attn_use_cope"}),
          "at most one of them, as polar queries do not fit contextual positions");
}

void check_norms(const AttentionLayersOptions& o) {
  if (o.softclamp_output) require_positive(o.softclamp_output_value, "softclamp_output_value");
  at_most_one({{"use_scalenorm", o.use_scalenorm},
               {"use_rmsnorm", o.use_rmsnorm},
               {"use_dynamic_tanh", o.use_dynamic_tanh},
               {"use_derf", o.use_derf},
               {"use_simple_rmsnorm", o.use_simple_rmsnorm},
               {"use_adaptive_layernorm", o.use_adaptive_layernorm},
               {"use_adaptive_rmsnorm", o.use_adaptive_rmsnorm}});
  at_most_one({{"use_layerscale", o.use_layerscale},
               {"use_adaptive_layerscale", o.use_adaptive_layerscale}});
  require(o.pre_norm || !o.sandwich_norm, at("sandwich_norm"), "needs {}", option("pre_norm"));
  require(o.pre_norm || !o.use_dynamic_tanh, at("use_dynamic_tanh"), "needs {}",
          option("pre_norm"));
}

void check_resi_dual(const AttentionLayersOptions& o) {
  const auto not_beside_resi_dual = [&](const char* name, bool is_on) {
    require(!o.resi_dual || !is_on, among({"resi_dual", name}), "only one of them");
  };
  not_beside_resi_dual("sandwich_norm", o.sandwich_norm);
  not_beside_resi_dual("use_dynamic_tanh", o.use_dynamic_tanh);
  not_beside_resi_dual("num_residual_streams", o.num_residual_streams > 1);
  not_beside_resi_dual("gate_residual", o.gate_residual);
  not_beside_resi_dual("scale_residual", o.scale_residual);
  not_beside_resi_dual("unet_skips", o.unet_skips);
  not_beside_resi_dual("softclamp_output", o.softclamp_output);
  require(!o.resi_dual || o.pre_norm_has_final_norm, at("pre_norm_has_final_norm"),
          "{} needs its final norm", option("resi_dual"));
  require(o.resi_dual || o.resi_dual_scale == 1, at("resi_dual_scale"), "needs {}",
          option("resi_dual"));
  expect(o.resi_dual_scale > 0 && o.resi_dual_scale <= 1, at("resi_dual_scale"), o.resi_dual_scale,
         "a number above 0 and at most 1");
}

void check_order(const AttentionLayersOptions& o) {
  for (const double dropout : o.layer_dropout.values) require_probability(dropout, "layer_dropout");
  for (const auto shift : o.shift_tokens.values) {
    require_at_least(shift, 0, "shift_tokens");
    const auto most = (o.dim - 1) / (o.causal ? 1 : 2);  // a part of the features for each shift
    require(shift <= most, at("shift_tokens"), "{} cuts {} = {} into too many parts", shift,
            option("dim"), o.dim);
  }
  require_probability(o.cross_attn_tokens_dropout, "cross_attn_tokens_dropout");
  require(!(o.layers_execute_order && o.custom_layers && o.depth),
          among({"layers_execute_order", "custom_layers", "depth"}), "not all three");
  require(!o.weight_tie_layers ||
              !(o.custom_layers || o.par_ratio || o.sandwich_coef || o.layers_execute_order),
          at("weight_tie_layers"), "not with {}, {}, {} or {}", option("custom_layers"),
          option("par_ratio"), option("sandwich_coef"), option("layers_execute_order"));
  require(!o.weight_tie_layers || o.depth, at("weight_tie_layers"), "needs {}", option("depth"));
  require(!o.unet_skips || o.custom_layers || !(o.par_ratio || o.sandwich_coef), at("unet_skips"),
          "{} and {} leave no blocks to mirror, so not beside them", option("par_ratio"),
          option("sandwich_coef"));
  require(o.num_residual_streams == 1 || !o.gate_residual,
          among({"num_residual_streams", "gate_residual"}), "only one of them");
}

void check_residual_arguments(const AttentionLayersOptions& o, const LayerPlan& plan) {
  const auto& given = o.residual_fn_kwargs;
  if (o.num_residual_streams == 1) return;
  const bool has_views = o.qkv_receive_diff_residuals && !o.integrate_layers;
  for (const auto& step : plan.layers) {
    const int64_t views = has_views && step.type == LayerType::attention ? 3 : 1;
    const auto given_views = given.num_input_views.value_or(views);
    expect(given_views == views, at(OptionPath("residual_fn_kwargs") / "num_input_views"),
           given_views, "{}, what each branch takes", views);
  }
  const auto streams = given.num_residual_streams.value_or(o.num_residual_streams);
  expect(streams == o.num_residual_streams,
         at(OptionPath("residual_fn_kwargs") / "num_residual_streams"), streams, "{} = {}",
         option("num_residual_streams"), o.num_residual_streams);
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

/// The options of a block that the stack has with `prefix` in front: not those that it has under
/// the same name.
template <class BlockOptions>
Spelling prefixed_options(const std::string& prefix, const BlockOptions& options) {
  auto names = option_names(options);
  for (const char* own : {"dim", "heads", "causal"}) names.erase(own);
  if (prefix == "attn_") {
    for (const char* own :
         {"qkv_receive_diff_residuals", "learned_value_residual_mix", "rotate_num_heads"})
      names.erase(own);
  }
  return prefixed(prefix, names);
}

/// How a stack spells the options of cross attention. Those that are not given for cross attention
/// itself are taken from attention, so what speaks only of such options is spelled as attention's.
Spelling cross_attention_spelling(const AttentionLayersOptions& o) {
  return [&o](const Notice& notice) {
    const auto own = differing_options(*o.cross_attn, as_cross_attention(o.attn, o.kind));
    const auto named = notice.named();
    const bool is_own = std::any_of(named.begin(), named.end(), [&](const OptionPath& path) {
      return !path.empty() && own.count(path.front()) > 0;
    });
    return prefixed_options(is_own ? "cross_attn_" : "attn_", *o.cross_attn)(notice);
  };
}

void check_views(const AttentionLayersOptions& o) {
  require(!o.qkv_receive_diff_residuals || o.integrate_layers || o.num_residual_streams > 1,
          at("qkv_receive_diff_residuals"), "needs {} > 1 or {}", option("num_residual_streams"),
          option("integrate_layers"));
}

}  // namespace

Spelling block_spelling(const AttentionLayersOptions& o, LayerType type) {
  switch (type) {
    case LayerType::attention:
      return prefixed_options("attn_", o.attn);
    case LayerType::cross_attention:
      return cross_attention_spelling(o);
    case LayerType::feed_forward:
      return prefixed_options("ff_", o.ff);
  }
  throw std::logic_error("a layer of no type");
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

namespace {

/// What C++ can set though no file can: options of a block that the stack sets, and causality that
/// its kind has. Throws InputError where they were given and say something else; the usual value
/// cannot be told from none.
void require_no_contradiction(const AttentionLayersOptions& o) {
  const AttentionOptions usual;
  const auto agree = [](const auto& given, const auto& usually, const auto& of_stack,
                        const OptionPath& path, const char* name) {
    require(given == usually || given == of_stack, at(path / name),
            "is {}, but the stack's {} is {}; set that one alone", given, option(name), of_stack);
  };
  const auto check_attention = [&](const AttentionOptions& given, const char* name) {
    agree(given.dim, usual.dim, o.dim, name, "dim");
    agree(given.heads, usual.heads, o.heads, name, "heads");
  };
  check_attention(o.attn, "attn");
  if (o.cross_attn) check_attention(*o.cross_attn, "cross_attn");
  agree(o.ff.dim, FeedForwardOptions{}.dim, o.dim, "ff", "dim");
  require(!o.causal || o.kind != LayersKind::encoder, at("causal"),
          "is true, but the layers of an Encoder see all tokens; set the kind to decoder");
  require(!o.attn.causal || o.kind != LayersKind::encoder, at(OptionPath("attn") / "causal"),
          "is true, but the stack is not causal; set {} alone", option("causal"));
}

}  // namespace

AttentionLayersOptions resolve(AttentionLayersOptions o) {
  require_no_contradiction(o);
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
  check_resi_dual(o);
  check_order(o);
  const auto plan = plan_layers(o);
  check_residual_arguments(o, plan);
  plan.require_skips(plan.execute_order);
  // As in Python, options of layers that do not exist may contradict each other.
  const auto check = [&](LayerType type, const auto& block_options) {
    if (plan.count(type) == 0) return;
    spelled(block_spelling(o, type), [&] {
      validate(block_options);
      if constexpr (requires { block_options.dim_out; }) {
        require(block_options.dim_out.value_or(o.dim) == o.dim, at("dim_out"),
                "the residual has {} = {}, got {}", option("dim"), o.dim,
                block_options.dim_out.value_or(0));
      }
    });
  };
  if (plan.count(LayerType::attention) > 0) check_views(o);
  check(LayerType::attention, o.attn);
  check(LayerType::cross_attention, *o.cross_attn);
  check(LayerType::feed_forward, o.ff);
}

}  // namespace x_transformers
