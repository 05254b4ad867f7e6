// What options of Attention go together.
#include <fmt/format.h>

#include "x_transformers/core/error.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/warning.h"
#include "x_transformers/nn/attention.h"

namespace x_transformers {

namespace {

void check_heads(const AttentionOptions& o) {
  require(!(o.kv_heads && o.one_kv_head), "kv_heads and one_kv_head: only one of them");
  const auto kv_heads = key_value_heads(o);
  require_positive(kv_heads, "kv_heads");
  require(o.heads % kv_heads == 0,
          fmt::format("kv_heads: {} does not divide heads = {}", kv_heads, o.heads));
  const auto rotated = o.latent_rope_subheads.value_or(o.rotate_num_heads.value_or(o.heads));
  require(rotated > 0 && rotated <= o.heads,
          fmt::format("{}: expected 1 to heads = {}, got {}",
                      o.latent_rope_subheads ? "latent_rope_subheads" : "rotate_num_heads", o.heads,
                      rotated));
  require(rotated == o.heads || kv_heads == o.heads,
          "rotate_num_heads: fewer than heads need kv_heads = heads");
}

void check_latents(const AttentionOptions& o) {
  if (o.use_latent_q) require_size(o.dim_latent_q, "dim_latent_q");
  if (o.use_latent_kv) require_size(o.dim_latent_kv, "dim_latent_kv");
  require(!o.use_latent_q || o.dim_latent_q, "use_latent_q: needs dim_latent_q");
  require(!o.use_latent_kv || o.dim_latent_kv, "use_latent_kv: needs dim_latent_kv");
  require(!o.latent_rope_subheads || !o.rotate_num_heads,
          "latent_rope_subheads and rotate_num_heads: only one of them");
  require(!o.latent_rope_subheads || o.use_latent_kv, "latent_rope_subheads: needs use_latent_kv");
  const auto kv_heads = key_value_heads(o);
  require(o.latent_rope_subheads.value_or(0) <= kv_heads,
          fmt::format("latent_rope_subheads: {} of them are more than kv_heads = {}",
                      o.latent_rope_subheads.value_or(0), kv_heads));
  require(!o.use_latent_kv || !o.qkv_receive_diff_residuals,
          "use_latent_kv and qkv_receive_diff_residuals: only one of them");
}

void check_hybrid(const AttentionOptions& o) {
  require(!o.hybrid_module || o.hybrid_fold_axial_dim,
          "hybrid_module: needs hybrid_fold_axial_dim (1: the module sees the sequence as it is)");
  require_size(o.hybrid_fold_axial_dim, "hybrid_fold_axial_dim");
}

void check_sizes(const AttentionOptions& o) {
  require_size(o.dim, "dim");
  require_size(o.heads, "heads");
  require_size(o.dim_head, "dim_head");
  require_size(o.dim_context, "dim_context");
  require_size(o.dim_out, "dim_out");
  require_size(o.value_dim_head, "value_dim_head");
  if (o.use_cope) require_size(o.cope_max_pos, "cope_max_pos");
  if (o.data_dependent_alibi && o.data_dependent_alibi_per_row)
    require_size(o.data_dependent_alibi_per_row_dim_head, "data_dependent_alibi_per_row_dim_head");
  if (o.laser) require_positive(o.laser_softclamp_value, "laser_softclamp_value");
  require_count(o.num_mem_kv, "num_mem_kv");
  require_at_least(o.max_attend_past, 0, "max_attend_past");
  require_probability(o.sublayer_dropout, "sublayer_dropout");
}

}  // namespace

void validate(const AttentionOptions& o) {
  check_sizes(o);
  check_heads(o);
  check_latents(o);
  check_hybrid(o);
  validate(static_cast<const ScoreOptions&>(o), o.causal);
  if (o.qk_norm) {
    require(o.qk_norm_groups > 0 && o.dim_head % o.qk_norm_groups == 0,
            fmt::format("qk_norm_groups: {} does not divide dim_head = {}", o.qk_norm_groups,
                        o.dim_head));
    require(o.dim_head / o.qk_norm_groups > 2,
            fmt::format("qk_norm_groups: leaves groups of {} features, expected more than 2",
                        o.dim_head / o.qk_norm_groups));
  }
  require(!o.use_cope || o.causal, "use_cope: needs causal attention");
  require(!o.data_dependent_alibi_per_row || !o.data_dependent_alibi || o.causal,
          "data_dependent_alibi_per_row: needs causal attention");
}

std::vector<std::string> unused_options(const AttentionOptions& o) {
  auto messages = unused_options(static_cast<const ScoreOptions&>(o));
  UnusedOptions unused("there is no hybrid_module", !o.hybrid_module);
  unused.add("hybrid_fold_axial_dim", o.hybrid_fold_axial_dim.has_value());
  unused.add("hybrid_mask_kwarg", o.hybrid_mask_kwarg.has_value());
  unused.add("hybrid_learned_mix", o.hybrid_learned_mix);
  for (const auto& message : unused.messages()) messages.push_back(message);
  return messages;
}

}  // namespace x_transformers
