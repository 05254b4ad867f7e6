// Multi-head attention: project, rotate, append to the cache, attend, gate, output.
#pragma once

#include <torch/nn/module.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "x_transformers/core/cost_part.h"
#include "x_transformers/core/inputs.h"
#include "x_transformers/core/notice.h"
#include "x_transformers/core/parts.h"
#include "x_transformers/nn/attend.h"
#include "x_transformers/nn/attention_options.h"
#include "x_transformers/nn/attention_state.h"
#include "x_transformers/nn/block.h"
#include "x_transformers/nn/callable_module.h"
#include "x_transformers/nn/linear.h"
#include "x_transformers/nn/mixing_inputs.h"
#include "x_transformers/nn/norms.h"
#include "x_transformers/nn/positions/position_bias.h"
#include "x_transformers/nn/qk_clip.h"

namespace x_transformers {

/// Throws InputError, with `name`, unless keys and values given from outside fit: [batch, h, m,
/// dim_head] and [batch, h, m, value_dim_head], where h divides heads. Undefined keys are absent.
void require_key_values(const std::pair<at::Tensor, at::Tensor>& given,
                        const AttentionOptions& options, int64_t batch, const char* name);

/// What one call of Attention takes.
struct AttentionInputs : BranchInputs, MixingInputs {
  at::Tensor hybrid_hidden;         ///< the hybrid module's first state, if not in a cache
  AttentionState* cache = nullptr;  ///< earlier tokens, appended to; a stack gives it as `state`

  /// Whether the cache has tokens before these.
  bool goes_on() const { return cache && cache->length() > 0; }

  /// All but x, by which the others are measured (core/inputs.h).
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& v) {
    using enum TensorKind;
    using Axis::batch;
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
  at::Tensor hybrid_hidden;  ///< the hybrid module's last state, if it has one
};

class AttentionImpl : public Block,
                      public ClippableAttention,
                      public CostPart,
                      public MeaningReader,
                      public PartOwner {
 public:
  explicit AttentionImpl(AttentionOptions options);
  /// What is given and not read is dropped with a warning, which `run` leaves to the stack.
  AttentionOutput forward(const AttentionInputs& inputs);
  BranchOutput run(const BranchInputs& branch) override;
  std::unique_ptr<BlockState> make_state(const StateOptions& options) const override;

  const AttentionOptions& options() const { return options_; }
  Text documents_unsupported() const override;
  Text cache_unsupported() const override;
  Text context_cache_unsupported() const override;
  Text static_cache_unsupported() const override;
  Text padding_unsupported() const override;
  Text given_cache_unsupported(const GivenState& given) const override;
  void check_given(const GivenState& given, const Dimension& batch,
                   const std::string& name) const override;
  /// Keys [b, kv_heads, c, d] that Python cached, rotated by the rows of `angles` that stand before
  /// its last `new_tokens`.
  at::Tensor rotate_keys(const at::Tensor& keys, const RotaryAngles& angles,
                         int64_t new_tokens) const;
  bool takes_ends() const override { return true; }
  OptionPath drawn_option() const override;
  const char* cost_part() const override { return "attention"; }

  // As what runs an Attend.
  Attend& attend_module() const override { return *attend_; }
  bool is_causal() const override { return options_.causal; }
  std::string sight_limits() const override;
  FrontKeys front_keys() const override {
    return {options_.num_mem_kv + (options_.add_zero_kv ? 1 : 0), options_.add_zero_kv};
  }
  Text decoding_unsupported() const override { return cache_unsupported(); }
  int64_t cached_features() const override;
  KeptAttendCall usual_call(int64_t tokens) const override;

  /// Of the values and of the output.
  std::vector<at::Tensor> muon_parameters() const override;
  /// QK-clip (arXiv:2507.20534): scales the rows of to_q and to_k of each head whose largest score
  /// of `pre_softmax_attn` [b, h, i, j] is above `tau`, so that it becomes `tau`; other heads keep
  /// their scores. Throws InputError with qk_norm, which leaves nothing to scale.
  // NOLINTNEXTLINE(readability-identifier-naming): Python's name
  void qk_clip_(const at::Tensor& pre_softmax_attn, double tau = 100.0);
  int64_t score_heads() const override { return options_.heads; }
  std::vector<ScaledRows> qk_clip_scales(const at::Tensor& score_maxes, double tau) const override;
  Text qk_clip_unsupported() const override;
  std::vector<MeaningRead> meanings_read() const override;
  Spelling part_spelling(const torch::nn::Module& part) const override;
  std::shared_ptr<torch::nn::Module> clone(
      const std::optional<torch::Device>& device = std::nullopt) const override;

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
  /// How many queries and keys a call has: keys of the sequence stand after all others.
  struct Counts {
    int64_t queries = 0, sequence_keys = 0, keys = 0;
  };
  AttentionOutput attend(AttentionInputs inputs);
  void drop_unread(AttentionInputs& inputs) const;
  void check(const AttentionInputs& inputs) const;
  void check_sequences(const AttentionInputs& inputs) const;
  void check_packed(const AttentionInputs& inputs) const;
  int64_t dim_kv() const;
  Text whole_sequence_unsupported() const;
  const char* orthogonal_projection() const;
  void check_pairs(const AttentionInputs& inputs, const Counts& counts) const;
  std::pair<at::Tensor, at::Tensor> kept_keys_values(const AttentionInputs& inputs,
                                                     const Projected& p) const;
  void build_projections();
  void build_outputs();
  bool normalises_input(const AttentionInputs& inputs) const;
  bool ends_with_product(const AttentionInputs& inputs) const;
  Projected project(const AttentionInputs& inputs);
  void project_latent(const AttentionInputs& inputs, Projected& p);
  void mix_values(const AttentionInputs& inputs, Projected& p);
  void normalise_qk(Projected& p) const;
  static void repeat_keys(Projected& p, int64_t rows);
  void rotate(const AttentionInputs& inputs, Projected& p) const;
  at::Tensor rotate_heads(const at::Tensor& t,
                          const std::function<at::Tensor(const at::Tensor&)>& turn) const;
  at::Tensor without_position(const AttentionInputs& inputs, const at::Tensor& keys) const;
  void append_to_cache(const AttentionInputs& inputs, Projected& p) const;
  AttendResult attend_sequence(const AttentionInputs& inputs, Projected& p,
                               AttentionOutput& result);
  Attend::Call call_of(const AttentionInputs& inputs, const at::Tensor& x, const Counts& counts,
                       const at::Tensor& key_visible);
  bool may_append(const AttentionInputs& inputs, const Projected& p) const;
  std::optional<AttendResult> attend_appending(const AttentionInputs& inputs, const Projected& p,
                                               const Attend::Call& call);
  at::Tensor key_mask(const AttentionInputs& inputs, int64_t sequence_keys) const;
  at::Tensor add_memory_key_values(const AttentionInputs& inputs, Projected& p,
                                   at::Tensor mask) const;
  std::optional<int64_t> plain_window(const AttentionInputs& inputs, int64_t sequence_keys,
                                      int64_t keys) const;
  at::Tensor pair_mask(const AttentionInputs& inputs, int64_t queries, int64_t sequence_keys,
                       int64_t keys) const;
  /// What is added to the scores by position, or by the caller: attn_bias or position of `call`.
  void place_scores(const AttentionInputs& inputs, const at::Tensor& x, int64_t sequence_keys,
                    int64_t keys, Attend::Call& call);
  at::Tensor gate(const at::Tensor& x, at::Tensor out);
  void build_hybrid();
  CallableModule::Result run_hybrid(const AttentionInputs& inputs, const at::Tensor& x) const;
  at::Tensor mix_hybrid(const AttentionInputs& inputs, const at::Tensor& x, at::Tensor out,
                        AttentionOutput& result);
  at::Tensor project_orthogonally(const at::Tensor& out, const at::Tensor& values) const;
  at::Tensor output(const Projected& p, at::Tensor out, const BranchEnds& ends);

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
