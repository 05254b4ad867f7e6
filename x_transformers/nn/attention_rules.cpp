// What options of Attention go together.
#include "x_transformers/core/error.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/core/warning.h"
#include "x_transformers/nn/attention_options.h"

namespace x_transformers {

namespace {

void check_heads(const AttentionOptions& o) {
  require(!(o.kv_heads && o.one_kv_head), among({"kv_heads", "one_kv_head"}), "only one of them");
  const auto kv_heads = key_value_heads(o);
  require_positive(kv_heads, "kv_heads");
  require_divides(kv_heads, "kv_heads", o.heads, "heads");
  const auto rotated = o.latent_rope_subheads.value_or(o.rotate_num_heads.value_or(o.heads));
  expect(rotated > 0 && rotated <= o.heads,
         at(o.latent_rope_subheads ? "latent_rope_subheads" : "rotate_num_heads"), rotated,
         "1 to {} = {}", option("heads"), o.heads);
  require(rotated == o.heads || kv_heads == o.heads, at("rotate_num_heads"),
          "fewer than {} need {} = {}", option("heads"), option("kv_heads"), option("heads"));
}

void check_latents(const AttentionOptions& o) {
  if (o.use_latent_q) require_size(o.dim_latent_q, "dim_latent_q");
  if (o.use_latent_kv) require_size(o.dim_latent_kv, "dim_latent_kv");
  require(!o.use_latent_q || o.dim_latent_q, at("use_latent_q"), "needs {}",
          option("dim_latent_q"));
  require(!o.use_latent_kv || o.dim_latent_kv, at("use_latent_kv"), "needs {}",
          option("dim_latent_kv"));
  require(!o.latent_rope_subheads || !o.rotate_num_heads,
          among({"latent_rope_subheads", "rotate_num_heads"}), "only one of them");
  require(!o.latent_rope_subheads || o.use_latent_kv, at("latent_rope_subheads"), "needs {}",
          option("use_latent_kv"));
  const auto kv_heads = key_value_heads(o);
  const auto rotated = o.latent_rope_subheads.value_or(0);
  expect(rotated <= kv_heads, at("latent_rope_subheads"), rotated, "at most {} = {}",
         option("kv_heads"), kv_heads);
  require(!o.use_latent_kv || !o.qkv_receive_diff_residuals,
          among({"use_latent_kv", "qkv_receive_diff_residuals"}), "only one of them");
}

void check_hybrid(const AttentionOptions& o) {
  require(!o.hybrid_module || o.hybrid_fold_axial_dim, at("hybrid_module"),
          "needs {} (1: the module sees the sequence as it is)", option("hybrid_fold_axial_dim"));
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
    require_divides(o.qk_norm_groups, "qk_norm_groups", o.dim_head, "dim_head");
    require(o.dim_head / o.qk_norm_groups > 2, at("qk_norm_groups"),
            "leaves groups of {} features, expected more than 2", o.dim_head / o.qk_norm_groups);
  }
  require(!o.use_cope || o.causal, at("use_cope"), "needs causal attention");
  require(!o.data_dependent_alibi_per_row || !o.data_dependent_alibi || o.causal,
          at("data_dependent_alibi_per_row"), "needs causal attention");
}

std::vector<Notice> unused_options(const AttentionOptions& o) {
  auto notices = unused_options(static_cast<const ScoreOptions&>(o));
  UnusedOptions unused(text("there is no {}", option("hybrid_module")), !o.hybrid_module);
  unused.add("hybrid_fold_axial_dim", o.hybrid_fold_axial_dim.has_value());
  unused.add("hybrid_mask_kwarg", o.hybrid_mask_kwarg.has_value());
  unused.add("hybrid_learned_mix", o.hybrid_learned_mix);
  for (const auto& notice : unused.notices()) notices.push_back(notice);
  return notices;
}

}  // namespace x_transformers
