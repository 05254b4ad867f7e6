#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "x_transformers/compare/every_option.h"
#include "x_transformers/compare/variants.h"

namespace x_transformers {
namespace {

struct Preset {
  /// Of these one at a time: a variant that switches one on switches the others off.
  std::vector<std::string> alternatives;
  std::vector<std::string> tries;
};

const std::map<std::string, Preset>& presets() {
  static const std::map<std::string, Preset> lists = {
      {"norms",
       {{"use_scalenorm", "use_rmsnorm", "use_simple_rmsnorm", "use_dynamic_tanh", "use_derf"},
        {"use_scalenorm", "use_rmsnorm", "use_simple_rmsnorm", "use_dynamic_tanh", "use_derf",
         "sandwich_norm", "pre_norm=false", "resi_dual+pre_norm=false",
         "norm_add_unit_offset=false", "softclamp_output", "post_emb_norm"}}},
      {"positions",
       {{"rotary_pos_emb", "alibi_pos_bias", "rel_pos_bias", "dynamic_pos_bias", "polar_pos_emb",
         "attn_use_cope", "attn_data_dependent_alibi", "scaled_sinu_pos_emb"},
        {"rotary_pos_emb", "rotary_pos_emb+rotary_xpos", "alibi_pos_bias", "rel_pos_bias",
         "dynamic_pos_bias", "polar_pos_emb", "attn_use_cope", "attn_data_dependent_alibi",
         "scaled_sinu_pos_emb", "shift_tokens=1"}}},
      {"attention",
       {{},
        {"attn_qk_norm",
         "attn_qk_norm+attn_qk_norm_dim_scale",
         "attn_value_rmsnorm",
         "attn_gate_values",
         "attn_gate_value_heads",
         "attn_head_scale",
         "attn_on_attn",
         "attn_one_kv_head",
         "attn_num_mem_kv=4",
         "attn_add_zero_kv",
         "attn_head_learned_sink",
         "attn_pre_talking_heads",
         "attn_post_talking_heads",
         "attn_softclamp_logits",
         "attn_selective",
         "attn_cog_signed",
         "attn_laser",
         "attn_sigmoid",
         "attn_l2_distance",
         "attn_sparse_topk=8",
         "attn_orthog_projected_values",
         "residual_attn",
         "num_memory_tokens=4"}}},
      {"feed-forward",
       {{"ff_swish", "ff_relu_squared", "ff_solu"},
        {"ff_glu", "ff_swish", "ff_glu+ff_swish", "ff_glu+ff_relu_squared",
         "ff_glu_mult_bias+ff_glu", "ff_relu_squared", "ff_solu", "ff_post_act_ln", "ff_no_bias",
         "ff_zero_init_output", "macaron"}}},
      {"residuals",
       {{},
        {"gate_residual", "scale_residual", "use_layerscale+layerscale_init_value=0.1",
         "num_residual_streams=4", "add_value_residual", "unet_skips", "reinject_input",
         "integrate_layers", "zero_init_branch_output", "attn_zero_init_output",
         "layer_dropout=0.1", "tie_embedding"}}},
  };
  return lists;
}

bool is_on(const Json& base, const OptionPlaces& places, const std::string& option) {
  try {
    return option_value(base, places.find(option, "preset")) == true;
  } catch (const InputError&) {
    return false;  // not of this model
  }
}

/// The variant that a line of a list is of `base`: one option that is on there is tried off.
std::string of_base(const std::string& line, const Preset& preset, const Json& base,
                    const OptionPlaces& places) {
  const bool is_one_switch = line.find_first_of("+=") == std::string::npos;
  if (is_one_switch && is_on(base, places, line)) return line + "=false";
  auto text = line;
  const auto among = [&](const std::string& option) {
    return ("+" + line + "+").find("+" + option + "+") != std::string::npos;
  };
  const auto& others = preset.alternatives;
  if (std::none_of(others.begin(), others.end(), among)) return text;
  for (const auto& other : others) {
    if (!among(other) && is_on(base, places, other)) text += "+" + other + "=false";
  }
  return text;
}

}  // namespace

std::vector<std::string> preset_names() {
  std::vector<std::string> names;
  for (const auto& [name, preset] : presets()) names.push_back(name);
  names.emplace_back("everything");
  return names;
}

std::vector<Variant> preset_variants(const std::string& name, const Json& base,
                                     const OptionPlaces& places) {
  const auto known = preset_names();
  if (std::find(known.begin(), known.end(), name) == known.end())
    detail::unknown("preset", "list", name, known);
  std::vector<Variant> all;
  if (name == "everything") all = every_option_variants(base, places);
  const bool is_of_lists = all.empty();  // or a model that the entries are not about
  for (const auto& [each, preset] : presets()) {
    if (name != each && !(name == "everything" && is_of_lists)) continue;
    for (const auto& line : preset.tries) {
      std::vector<Variant> variants;
      try {
        variants = parse_variants(of_base(line, preset, base, places), places, "preset");
      } catch (const InputError&) {
        continue;  // an option that this model does not have
      }
      for (auto& variant : variants) {
        variant.may_be_refused = true;
        if (!is_base(variant, base)) all.push_back(std::move(variant));
      }
    }
  }
  require(!all.empty(), at("preset"), "{} has no option of this model", name);
  return all;
}

}  // namespace x_transformers
