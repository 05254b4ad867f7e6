#include "x_transformers/core/options_to_come.h"

#include <set>
#include <string_view>

namespace x_transformers {

bool is_option_to_come(const std::string& name) {
  static const std::set<std::string> names = {
      // Attention, FeedForward
      "gate_values_rank",
      "gate_values_headwise",
      "output_gate",
      "output_gate_rank",
      "output_gate_headwise",
      "low_rank_silu_gates",
      "qk_rmsnorm",
      "k_rmsnorm",
      "use_rel_proj_pos_bias",
      "rel_proj_num_distance_basis",
      "rel_proj_max_dist",
      "project_out",
      "inverted_attention",
      "softclamp_value",
      "glu_softclamp",
      "glu_gate_softclamp_value",
      "glu_up_softclamp_value",
      // AttentionLayers
      "only_attn",
      "pre_and_post_norm",
      "attn_aggregated_residuals",
      "attn_aggregated_residual_kwargs",
      "orthog_residual",
      "mv_split_residual",
      "gated_multi_residual",
      "depth_scale_residual",
      // models and wrappers
      "tie_embedding_scale",
      "looped",
      "max_looped_steps",
      "looped_loss_threshold_exit",
      "looped_loss_slope",
      "looped_exit_loss_weight",
      "tbptt_steps",
      "ttt_module_paths",
      "ttt_lr",
      "ttt_wd",
      "ttt_use_muon",
      "ttt_muon_steps",
      "ttt_muon_lr",
      "ttt_low_rank_paths",
      "ttt_custom_loss_module",
      "ttt_next_latent_loss",
      "episodic_mem_len",
      "use_identity_if_same_dim",
      "accumulate_entropy",
      "ignore_entropy_below",
  };
  std::string_view own = name;
  for (const std::string_view prefix : {"enc_", "dec_", "cross_", "attn_", "ff_"}) {
    if (own.starts_with(prefix) && !names.contains(std::string(own)))
      own.remove_prefix(prefix.size());
  }
  return names.contains(std::string(own));
}

bool is_argument_to_come(const std::string& name) {
  static const std::set<std::string> names = {
      "q_delta",
      "k_delta",
      "v_delta",
      "o_delta",
      "attn_delta",
      "repeat_blocks",
      "transform_token_embeds",
      "transform_block_inputs",
      "excise_prepend_embeds",
      "return_gumbel_log_probs",
      "detach_mems",
      "dropout_mems",
      "ttt_recurrent_steps",
      "looped_steps",
      "looped_inference",
      "looped_exit_prob_threshold",
      "looped_pred_all_logits",
  };
  return names.count(name.substr(0, name.find('.'))) > 0;
}

}  // namespace x_transformers
