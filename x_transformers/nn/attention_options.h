// Options of multi-head attention.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "x_transformers/core/compat.h"
#include "x_transformers/core/notice.h"
#include "x_transformers/core/options.h"
#include "x_transformers/nn/attend_options.h"

namespace x_transformers {

inline constexpr int64_t kDefaultDimHead = 64;

struct DataDependentAlibiOptions {
  /// start of the gates' bias
  double bias_init = 5.0;
  /// factor of the log gates
  double post_log_scale = 1.0;

  template <class Visitor>
  void fields(Visitor& v) {
    v("bias_init", bias_init, "start of the gates' bias");
    v("post_log_scale", post_log_scale, "factor of the log gates");
  }
};

struct AttentionOptions : ScoreOptions {
  /// features of the sequence
  int64_t dim = 0;
  /// features of each head's queries and keys
  int64_t dim_head = kDefaultDimHead;
  /// features of the context; default: dim
  std::optional<int64_t> dim_context = std::nullopt;
  /// attention heads (arXiv:1706.03762)
  int64_t heads = 8;
  /// no key after its query
  bool causal = false;
  /// learned factor for each head's output (arXiv:2110.09456)
  bool head_scale = false;
  /// learned keys and values in front of the sequence (arXiv:1907.01470)
  int64_t num_mem_kv = 0;
  /// dropout of the output
  double sublayer_dropout = 0.0;
  /// attention on attention: a gated output projection (arXiv:1908.06954)
  bool on_attn = false;
  /// each head's output gated by the input (arXiv:2306.12929)
  bool gate_value_heads = false;
  /// SiLU in place of sigmoid in gate_values
  bool swiglu_values = false;
  /// each output feature gated by the input (doi:10.1038/s41586-021-03819-2)
  bool gate_values = false;
  /// start with an output of zero
  bool zero_init_output = false;
  /// keys further back than this are not seen (arXiv:2004.05150)
  std::optional<int64_t> max_attend_past = std::nullopt;
  /// l2-normalised queries and keys (arXiv:2010.04245)
  bool qk_norm = false;
  /// groups of features that are normalised apart (arXiv:2302.05442)
  int64_t qk_norm_groups = 1;
  /// factor of the scores with qk_norm; null: dim_head ** -0.5
  std::optional<double> qk_norm_scale = 10.0;
  /// learned factor for each normalised feature (arXiv:2302.05442)
  bool qk_norm_dim_scale = false;
  /// root-mean-square norm of the values
  bool value_rmsnorm = false;
  /// one key/value head for all queries (arXiv:1911.02150)
  bool one_kv_head = false;
  /// key/value heads; query head h uses h % kv_heads; default: heads (arXiv:2305.13245)
  std::optional<int64_t> kv_heads = std::nullopt;
  /// features of each head's values; default: dim_head
  std::optional<int64_t> value_dim_head = std::nullopt;
  /// output features; default: dim
  std::optional<int64_t> dim_out = std::nullopt;
  /// heads, from the last, that are rotated; default: all
  std::optional<int64_t> rotate_num_heads = std::nullopt;
  /// position bias from forget gates (arXiv:2503.02130)
  bool data_dependent_alibi = false;
  /// forget gates for each pair of tokens
  bool data_dependent_alibi_per_row = false;
  /// features of the gates' queries and keys
  int64_t data_dependent_alibi_per_row_dim_head = 8;
  /// bias_init and post_log_scale
  DataDependentAlibiOptions data_dependent_alibi_kwargs = {};
  /// contextual positions (arXiv:2405.18719)
  bool use_cope = false;
  /// contextual positions end here
  int64_t cope_max_pos = 16;
  /// soft one-hot in place of interpolation
  bool cope_soft_onehot_pos = false;
  /// heads mixed before they count positions
  bool cope_talking_heads = false;
  /// mix with the first layer's values learned per token (arXiv:2410.17897)
  bool learned_value_residual_mix = false;
  /// output orthogonal to the tokens' own values (openreview:Ard2QzPAUK)
  bool orthog_projected_values = false;
  /// the same projection once more, as in Python, where heads are merged first
  bool orthog_projected_values_per_head = false;
  /// attention to exponentiated values (arXiv:2411.03493)
  bool laser = false;
  /// bound of the values with laser
  double laser_softclamp_value = 15.0;
  /// queries, keys and values from different views
  bool qkv_receive_diff_residuals = false;
  /// queries from a smaller latent (arXiv:2405.04434)
  bool use_latent_q = false;
  /// features of the query latent
  std::optional<int64_t> dim_latent_q = std::nullopt;
  /// keys and values from a smaller latent (arXiv:2405.04434)
  bool use_latent_kv = false;
  /// features of the key/value latent
  std::optional<int64_t> dim_latent_kv = std::nullopt;
  /// key heads that skip the latent and are rotated (arXiv:2405.04434)
  std::optional<int64_t> latent_rope_subheads = std::nullopt;
  /// a module beside attention, whose output is mixed with the heads' (GRU, MinGRU, CausalConv1d,
  /// ...) (arXiv:2411.13676)
  std::optional<ModuleSpec> hybrid_module = std::nullopt;
  /// the module's argument that gets the mask, where attention is not causal
  std::optional<std::string> hybrid_mask_kwarg = std::nullopt;
  /// the module sees this many interleaved sequences; 1: the sequence
  std::optional<int64_t> hybrid_fold_axial_dim = std::nullopt;
  /// the mix is learned per token and head, in place of the mean
  bool hybrid_learned_mix = false;
  Compat compat = {};  ///< of the whole model; no option of the class

  template <class Visitor>
  void fields(Visitor& v) {
    v.size("dim", dim, "features of the sequence");
    v("dim_head", dim_head, "features of each head's queries and keys");
    v("dim_context", dim_context, "features of the context; default: dim");
    v.size("heads", heads, "attention heads", "arXiv:1706.03762");
    v("causal", causal, "no key after its query");
    score_fields(v);
    v("attend_sdp_kwargs", sdp_kwargs, "which engines may run");
    v("head_scale", head_scale, "learned factor for each head's output", "arXiv:2110.09456");
    v("num_mem_kv", num_mem_kv, "learned keys and values in front of the sequence",
      "arXiv:1907.01470");
    v.free("sublayer_dropout", sublayer_dropout, "dropout of the output");
    v("on_attn", on_attn, "attention on attention: a gated output projection", "arXiv:1908.06954");
    v("gate_value_heads", gate_value_heads, "each head's output gated by the input",
      "arXiv:2306.12929");
    v("swiglu_values", swiglu_values, "SiLU in place of sigmoid in gate_values");
    v("gate_values", gate_values, "each output feature gated by the input",
      "doi:10.1038/s41586-021-03819-2");
    v.free("zero_init_output", zero_init_output, "start with an output of zero");
    v("max_attend_past", max_attend_past, "keys further back than this are not seen",
      "arXiv:2004.05150");
    v("qk_norm", qk_norm, "l2-normalised queries and keys", "arXiv:2010.04245");
    v("qk_norm_groups", qk_norm_groups, "groups of features that are normalised apart",
      "arXiv:2302.05442");
    v("qk_norm_scale", qk_norm_scale, "factor of the scores with qk_norm; null: dim_head ** -0.5");
    v("qk_norm_dim_scale", qk_norm_dim_scale, "learned factor for each normalised feature",
      "arXiv:2302.05442");
    v("value_rmsnorm", value_rmsnorm, "root-mean-square norm of the values");
    v("one_kv_head", one_kv_head, "one key/value head for all queries", "arXiv:1911.02150");
    v("kv_heads", kv_heads, "key/value heads; query head h uses h % kv_heads; default: heads",
      "arXiv:2305.13245");
    v("value_dim_head", value_dim_head, "features of each head's values; default: dim_head");
    v("dim_out", dim_out, "output features; default: dim");
    v("rotate_num_heads", rotate_num_heads, "heads, from the last, that are rotated; default: all");
    v("data_dependent_alibi", data_dependent_alibi, "position bias from forget gates",
      "arXiv:2503.02130");
    v("data_dependent_alibi_per_row", data_dependent_alibi_per_row,
      "forget gates for each pair of tokens");
    v("data_dependent_alibi_per_row_dim_head", data_dependent_alibi_per_row_dim_head,
      "features of the gates' queries and keys");
    v("data_dependent_alibi_kwargs", data_dependent_alibi_kwargs, "bias_init and post_log_scale");
    v("use_cope", use_cope, "contextual positions", "arXiv:2405.18719");
    v("cope_max_pos", cope_max_pos, "contextual positions end here");
    v("cope_soft_onehot_pos", cope_soft_onehot_pos, "soft one-hot in place of interpolation");
    v("cope_talking_heads", cope_talking_heads, "heads mixed before they count positions");
    v("learned_value_residual_mix", learned_value_residual_mix,
      "mix with the first layer's values learned per token", "arXiv:2410.17897");
    v("orthog_projected_values", orthog_projected_values,
      "output orthogonal to the tokens' own values", "openreview:Ard2QzPAUK");
    v("orthog_projected_values_per_head", orthog_projected_values_per_head,
      "the same projection once more, as in Python, where heads are merged first");
    v("laser", laser, "attention to exponentiated values", "arXiv:2411.03493");
    v("laser_softclamp_value", laser_softclamp_value, "bound of the values with laser");
    v("qkv_receive_diff_residuals", qkv_receive_diff_residuals,
      "queries, keys and values from different views");
    v("use_latent_q", use_latent_q, "queries from a smaller latent", "arXiv:2405.04434");
    v("dim_latent_q", dim_latent_q, "features of the query latent");
    v("use_latent_kv", use_latent_kv, "keys and values from a smaller latent", "arXiv:2405.04434");
    v("dim_latent_kv", dim_latent_kv, "features of the key/value latent");
    v("latent_rope_subheads", latent_rope_subheads,
      "key heads that skip the latent and are rotated", "arXiv:2405.04434");
    v("hybrid_module", hybrid_module,
      "a module beside attention, whose output is mixed with the heads' (GRU, MinGRU, "
      "CausalConv1d, ...)",
      "arXiv:2411.13676");
    v("hybrid_mask_kwarg", hybrid_mask_kwarg,
      "the module's argument that gets the mask, where attention is not causal");
    v("hybrid_fold_axial_dim", hybrid_fold_axial_dim,
      "the module sees this many interleaved sequences; 1: the sequence");
    v("hybrid_learned_mix", hybrid_learned_mix,
      "the mix is learned per token and head, in place of the mean");
  }
};

/// Heads of the keys and values, as kv_heads or one_kv_head says.
inline int64_t key_value_heads(const AttentionOptions& options) {
  return options.one_kv_head ? 1 : options.kv_heads.value_or(options.heads);
}

/// Throws InputError for impossible combinations.
void validate(const AttentionOptions& options);
/// A notice for each option that changes nothing beside the others.
std::vector<Notice> unused_options(const AttentionOptions& options);

}  // namespace x_transformers
