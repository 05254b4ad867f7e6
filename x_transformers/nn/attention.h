// Multi-head attention: project, rotate, append to the cache, attend, gate, output.
#pragma once

#include <torch/nn/module.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "x_transformers/core/compat.h"
#include "x_transformers/core/inputs.h"
#include "x_transformers/core/notice.h"
#include "x_transformers/core/options.h"
#include "x_transformers/nn/attend.h"
#include "x_transformers/nn/attention_state.h"
#include "x_transformers/nn/block.h"
#include "x_transformers/nn/callable_module.h"
#include "x_transformers/nn/linear.h"
#include "x_transformers/nn/norms.h"
#include "x_transformers/nn/positions/position_bias.h"

namespace x_transformers {

inline constexpr int64_t kDefaultDimHead = 64;

struct DataDependentAlibiOptions {
  double bias_init = 5.0;
  double post_log_scale = 1.0;

  template <class Visitor>
  void fields(Visitor& v) {
    v("bias_init", bias_init, "start of the gates' bias");
    v("post_log_scale", post_log_scale, "factor of the log gates");
  }
};

struct AttentionOptions : ScoreOptions {
  int64_t dim = 0;
  int64_t dim_head = kDefaultDimHead;
  std::optional<int64_t> dim_context = std::nullopt;
  int64_t heads = 8;
  bool causal = false;
  bool head_scale = false;
  int64_t num_mem_kv = 0;
  double sublayer_dropout = 0.0;
  bool on_attn = false;
  bool gate_value_heads = false;
  bool swiglu_values = false;
  bool gate_values = false;
  bool zero_init_output = false;
  std::optional<int64_t> max_attend_past = std::nullopt;
  bool qk_norm = false;
  int64_t qk_norm_groups = 1;
  std::optional<double> qk_norm_scale = 10.0;
  bool qk_norm_dim_scale = false;
  bool value_rmsnorm = false;
  bool one_kv_head = false;
  std::optional<int64_t> kv_heads = std::nullopt;
  std::optional<int64_t> value_dim_head = std::nullopt;
  std::optional<int64_t> dim_out = std::nullopt;
  std::optional<int64_t> rotate_num_heads = std::nullopt;
  bool data_dependent_alibi = false;
  bool data_dependent_alibi_per_row = false;
  int64_t data_dependent_alibi_per_row_dim_head = 8;
  DataDependentAlibiOptions data_dependent_alibi_kwargs = {};
  bool use_cope = false;
  int64_t cope_max_pos = 16;
  bool cope_soft_onehot_pos = false;
  bool cope_talking_heads = false;
  bool learned_value_residual_mix = false;
  bool orthog_projected_values = false;
  bool orthog_projected_values_per_head = false;
  bool laser = false;
  double laser_softclamp_value = 15.0;
  bool qkv_receive_diff_residuals = false;
  bool use_latent_q = false;
  std::optional<int64_t> dim_latent_q = std::nullopt;
  bool use_latent_kv = false;
  std::optional<int64_t> dim_latent_kv = std::nullopt;
  std::optional<int64_t> latent_rope_subheads = std::nullopt;
  std::optional<ModuleSpec> hybrid_module = std::nullopt;
  std::optional<std::string> hybrid_mask_kwarg = std::nullopt;
  std::optional<int64_t> hybrid_fold_axial_dim = std::nullopt;
  bool hybrid_learned_mix = false;
  Compat compat = {};  ///< of the whole model; no option of the class

  template <class Visitor>
  void fields(Visitor& v) {
    v("dim", dim, "features of the sequence");
    v("dim_head", dim_head, "features of each head's queries and keys");
    v("dim_context", dim_context, "features of the context; default: dim");
    v("heads", heads, "attention heads", "arXiv:1706.03762");
    v("causal", causal, "no key after its query");
    score_fields(v);
    v("attend_sdp_kwargs", sdp_kwargs, "which engines may run");
    v("head_scale", head_scale, "learned factor for each head's output", "arXiv:2110.09456");
    v("num_mem_kv", num_mem_kv, "learned keys and values in front of the sequence",
      "arXiv:1907.01470");
    v("sublayer_dropout", sublayer_dropout, "dropout of the output");
    v("on_attn", on_attn, "attention on attention: a gated output projection", "arXiv:1908.06954");
    v("gate_value_heads", gate_value_heads, "each head's output gated by the input",
      "arXiv:2306.12929");
    v("swiglu_values", swiglu_values, "SiLU in place of sigmoid in gate_values");
    v("gate_values", gate_values, "each output feature gated by the input",
      "doi:10.1038/s41586-021-03819-2");
    v("zero_init_output", zero_init_output, "start with an output of zero");
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
      "the same for each head");
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
/// What the options say that changes nothing beside the others.
std::vector<Notice> unused_options(const AttentionOptions& options);

/// Throws InputError, with `name`, unless keys and values given from outside fit: [batch, h, m,
/// dim_head] and [batch, h, m, value_dim_head], where h divides heads. Undefined keys are absent.
void require_key_values(const std::pair<at::Tensor, at::Tensor>& given,
                        const AttentionOptions& options, int64_t batch, const char* name);

/// What one call of Attention takes.
struct AttentionInputs : BranchInputs, MixingInputs {
  at::Tensor hybrid_hidden;         ///< where the hybrid module goes on, if not in a cache
  AttentionState* cache = nullptr;  ///< earlier tokens, appended to; a stack gives it as `state`
  bool keep_unrotated = false;      ///< fill AttentionOutput::unrotated_kv

  /// All but x, by which the others are measured (core/inputs.h).
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& v) {
    using enum TensorKind;
    constexpr auto batch = Axis::batch;
    constexpr InputField kPairs = {.axes = {batch, Axis::heads, Axis::tokens, Axis::keys},
                                   .fit = Fit::by_rule};
    v("context", self.context,
      {.kind = floating, .axes = {batch, Axis::context, Axis::dim_context}});
    v("mask", self.mask, {.kind = boolean, .axes = {batch, Axis::tokens}});
    v("context_mask", self.context_mask, {.kind = boolean, .axes = {batch, Axis::keys}});
    v("attn_mask", self.attn_mask, kPairs);
    v("attn_bias", self.attn_bias, kPairs);
    v("pos", self.pos, {.axes = {optional(batch), Axis::tokens}, .fit = Fit::by_rule});
    v("prev_attn", self.prev_attn, kPairs);
    v("mem", self.mem, {.kind = floating, .axes = {batch, any_size(Axis::memory), Axis::dim_kv}});
    v("mem_mask", self.mem_mask, {.kind = boolean, .axes = {batch, Axis::memory}});
    v("value_residual", self.value_residual, kPairs);
    v("kv_input_residual", self.kv_input_residual,
      {.kind = floating, .axes = {batch, Axis::kv_tokens, Axis::dim_kv}, .fit = Fit::broadcast});
    v("additional_key_values", self.additional_key_values, kPairs);
    v("additional_key_value_mask", self.additional_key_value_mask,
      {.kind = boolean, .axes = {batch, Axis::added_keys}});
    v.made("rotary_pos_emb", self.rotary,
           {.axes = {batch, Axis::tokens, Axis::other}, .fit = Fit::by_rule});
    v.made("polar_pos_emb", self.polar, kPairs);
    v.made("flash_pack_seq_kwargs", self.packed,
           {.axes = {batch, Axis::other}, .fit = Fit::by_rule});
    v("cache.hybrid_hidden", self.hybrid_hidden, {.fit = Fit::by_rule});
  }
};

/// What one call of Attention computes.
struct AttentionOutput : BranchOutput {
  at::Tensor hybrid_hidden;  ///< where the hybrid module has come to, if it has a state
  std::pair<at::Tensor, at::Tensor>
      unrotated_kv;  ///< keys and values of the sequence, as Python caches them
};

class AttentionImpl : public Block {
 public:
  explicit AttentionImpl(AttentionOptions options);
  /// What is given and not read is dropped with a warning, which `run` leaves to the stack.
  AttentionOutput forward(const AttentionInputs& inputs);
  BranchOutput run(const BranchInputs& branch) override;
  std::unique_ptr<BlockState> make_state(const StateOptions& options) const override;

  const AttentionOptions& options() const { return options_; }
  std::string cache_refusal() const override;
  /// Why a cache as Python's, of keys, values and perhaps a `hybrid_hidden`, is not all that is
  /// needed of earlier tokens; empty: it is.
  std::string given_cache_refusal(bool has_hybrid_hidden) const;
  /// Keys [b, kv_heads, c, d] that Python cached, turned by the rows of `angles` that stand before
  /// its last `new_tokens`.
  at::Tensor rotate_keys(const at::Tensor& keys, const RotaryAngles& angles,
                         int64_t new_tokens) const;
  /// Features of one token that a cache keeps, keys and values together.
  int64_t cached_features() const;
  Attend& attend_module() const { return *attend_; }

 private:
  /// Queries, keys and values on their way through the steps of forward.
  struct Projected {
    at::Tensor q, k, v;            ///< [b, h, n, d], [b, kv_heads, j, d], [b, kv_heads, j, dv]
    at::Tensor x;                  ///< [b, n, dim] the input as the queries see it
    at::Tensor q_input;            ///< [b, n, d] what queries were made of
    at::Tensor orig_values;        ///< values as projected
    at::Tensor latent, sub_heads;  ///< what multi-latent attention caches
    int64_t mem_length = 0;        ///< keys at the front that are memory
  };
  AttentionOutput attend(AttentionInputs inputs);
  void drop_unread(AttentionInputs& inputs) const;
  void check(const AttentionInputs& inputs) const;
  void check_sequences(const AttentionInputs& inputs) const;
  void check_packed(const AttentionInputs& inputs) const;
  int64_t dim_kv() const;
  std::string whole_sequence_refusal() const;
  void check_pairs(const AttentionInputs& inputs, int64_t queries, int64_t sequence_keys,
                   int64_t keys) const;
  std::pair<at::Tensor, at::Tensor> unrotated(const Projected& p) const;
  void build_projections();
  void build_outputs();
  Projected project(const AttentionInputs& inputs);
  void project_latent(const AttentionInputs& inputs, Projected& p);
  void mix_values(const AttentionInputs& inputs, Projected& p);
  void normalise_qk(Projected& p) const;
  static void repeat_keys(Projected& p, int64_t rows);
  void rotate(const AttentionInputs& inputs, Projected& p) const;
  at::Tensor turn_heads(const at::Tensor& t,
                        const std::function<at::Tensor(const at::Tensor&)>& turn) const;
  at::Tensor without_position(const AttentionInputs& inputs, const at::Tensor& keys) const;
  void append_to_cache(const AttentionInputs& inputs, Projected& p) const;
  at::Tensor key_mask(const AttentionInputs& inputs, int64_t sequence_keys) const;
  at::Tensor add_memory_key_values(const AttentionInputs& inputs, Projected& p,
                                   at::Tensor mask) const;
  at::Tensor pair_mask(const AttentionInputs& inputs, int64_t queries, int64_t sequence_keys,
                       int64_t keys) const;
  at::Tensor position_bias(const AttentionInputs& inputs, const at::Tensor& x,
                           int64_t sequence_keys, int64_t keys);
  at::Tensor gate(const at::Tensor& x, at::Tensor out);
  void build_hybrid();
  CallableModule::Result run_hybrid(const AttentionInputs& inputs, const at::Tensor& x) const;
  at::Tensor mix_hybrid(const AttentionInputs& inputs, const at::Tensor& x, at::Tensor out,
                        AttentionOutput& result);
  at::Tensor project_orthogonally(const at::Tensor& out, const at::Tensor& values) const;
  at::Tensor output(const at::Tensor& x, const Projected& p, at::Tensor out);

  AttentionOptions options_ = {};
  int64_t kv_heads_, value_dim_head_, rotate_num_heads_;
  Linear to_q_{nullptr}, to_k_{nullptr}, to_v_{nullptr}, to_out_{nullptr};
  Linear to_latent_q_{nullptr}, to_latent_kv_{nullptr}, to_rotateable_k_{nullptr};
  Linear to_v_gate_{nullptr}, to_v_head_gate_{nullptr}, to_value_residual_mix_{nullptr};
  at::Tensor qk_norm_q_scale_, qk_norm_k_scale_, head_scale_params_, mem_k_, mem_v_;
  std::shared_ptr<MultiheadRMSNorm> value_rmsnorm_;
  std::shared_ptr<DataDependentAlibi> data_dependent_alibi_;
  std::shared_ptr<PerRowDataDependentAlibi> per_row_alibi_;
  CallableModule hybrid_module_;
  std::shared_ptr<MultiheadRMSNorm> hybrid_out_norm_, hybrid_norm_;
  Linear hybrid_mix_{nullptr};
  std::shared_ptr<Attend> attend_;
};
TORCH_MODULE(Attention);

}  // namespace x_transformers
