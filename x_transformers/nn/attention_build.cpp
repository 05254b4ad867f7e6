// Building Attention: names and order of construction are Python's.
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "x_transformers/core/spelling.h"
#include "x_transformers/core/warning.h"
#include "x_transformers/nn/attention.h"
#include "x_transformers/nn/fold_axially.h"
#include "x_transformers/nn/linear.h"

namespace x_transformers {

namespace {

/// How many times the values of a head stand beside each other before they are projected.
int64_t value_copies(const AttentionOptions& o) {
  return std::max(1, int{o.orthog_projected_values} + int{o.orthog_projected_values_per_head});
}

/// Whether the values of all heads must be projected. Those of one head need not be, where they are
/// as wide as the output.
bool must_project_values(const AttentionOptions& o) {
  const auto width = o.value_dim_head.value_or(o.dim_head) * o.heads * value_copies(o);
  return o.heads > 1 || o.on_attn || width != o.dim_out.value_or(o.dim) ||
         o.dim_out.value_or(o.dim) != o.dim;
}

}  // namespace

void AttentionImpl::build_projections() {
  const auto& o = options_;
  const auto dim_q_input = o.use_latent_q ? *o.dim_latent_q : o.dim;
  const auto dim_kv = o.dim_context.value_or(o.dim);
  const auto dim_kv_input = o.use_latent_kv ? *o.dim_latent_kv : dim_kv;
  const auto rope_subheads = o.latent_rope_subheads.value_or(0);
  if (o.use_latent_q)
    to_latent_q_ = register_module("to_latent_q", linear_no_bias(o.dim, *o.dim_latent_q));
  if (o.use_latent_kv)
    to_latent_kv_ = register_module("to_latent_kv", linear_no_bias(o.dim, *o.dim_latent_kv));
  if (rope_subheads > 0) {
    to_rotateable_k_ =
        register_module("to_rotateable_k", linear_no_bias(o.dim, o.dim_head * rope_subheads));
  }
  to_q_ = register_module("to_q", linear_no_bias(dim_q_input, o.dim_head * o.heads));
  to_k_ = register_module("to_k",
                          linear_no_bias(dim_kv_input, o.dim_head * (kv_heads_ - rope_subheads)));
  to_v_ = register_module("to_v", linear_no_bias(dim_kv_input, value_dim_head_ * kv_heads_));
  if (o.qk_norm && o.qk_norm_dim_scale) {
    // Scores begin as cosines times 10 (qk_norm_scale), or times sqrt(dim_head) / sqrt(dim_head).
    const double start = o.compat.meaning().dim_scale_keeps_qk_norm_scale
                             ? 1.0
                             : std::pow(static_cast<double>(o.dim_head), 0.25);
    qk_norm_q_scale_ =
        register_parameter("qk_norm_q_scale", at::full({o.heads, 1, o.dim_head}, start));
    qk_norm_k_scale_ =
        register_parameter("qk_norm_k_scale", at::full({kv_heads_, 1, o.dim_head}, start));
  }
  if (o.value_rmsnorm) {
    value_rmsnorm_ = register_module(
        "value_rmsnorm",
        std::make_shared<MultiheadRMSNorm>(MultiheadRMSNormOptions{value_dim_head_, o.heads}));
  }
  if (o.num_mem_kv > 0) {
    mem_k_ = register_parameter("mem_k", at::randn({kv_heads_, o.num_mem_kv, o.dim_head}));
    mem_v_ = register_parameter("mem_v", at::randn({kv_heads_, o.num_mem_kv, value_dim_head_}));
  }
  if (o.learned_value_residual_mix) {
    auto scope = register_module("to_value_residual_mix", make_scope());
    to_value_residual_mix_ = scope->register_module("0", Linear(o.dim, o.heads));
  }
}

void AttentionImpl::build_outputs() {
  const auto& o = options_;
  constexpr double kOpenGate = 10.0;
  const auto out_dim = value_dim_head_ * o.heads;
  const auto gate = [&](const char* name, int64_t features, bool has_bias) {
    auto layer =
        register_module(name, has_bias ? Linear(o.dim, features) : linear_no_bias(o.dim, features));
    torch::NoGradGuard no_grad;
    layer->weight.zero_();
    if (has_bias) layer->bias.fill_(kOpenGate);
    return layer;
  };
  if (o.gate_values)
    to_v_gate_ = gate("to_v_gate", out_dim, o.compat.meaning().value_gates_have_a_bias);
  if (o.gate_value_heads) to_v_head_gate_ = gate("to_v_head_gate", o.heads, /*has_bias=*/true);
  if (o.head_scale)
    head_scale_params_ = register_parameter("head_scale_params", at::ones({1, o.heads, 1, 1}));

  const auto copies = value_copies(o);
  const auto dim_out = o.dim_out.value_or(o.dim);
  if (o.on_attn) {
    auto scope = register_module("to_out", make_scope());
    to_out_ = scope->register_module("0", linear_no_bias(out_dim * copies, dim_out * 2));
  } else if (must_project_values(o) || o.compat.meaning().single_heads_are_projected) {
    to_out_ = register_module("to_out", linear_no_bias(out_dim * copies, dim_out));
  }
  if (o.zero_init_output && to_out_) zero_init(to_out_);
}

void AttentionImpl::build_hybrid() {
  const auto& o = options_;
  const auto hybrid =
      within("hybrid_module", [&] { return make_callable(*o.hybrid_module, o.compat); });
  hybrid_module_ = fold_axially(*o.hybrid_fold_axial_dim, hybrid);
  register_module("hybrid_module", hybrid_module_.module);
  auto norms = register_module("hybrid_norms", make_scope());
  hybrid_out_norm_ = norms->register_module(
      "0", std::make_shared<MultiheadRMSNorm>(MultiheadRMSNormOptions{value_dim_head_, o.heads}));
  hybrid_norm_ = norms->register_module(
      "1", std::make_shared<MultiheadRMSNorm>(MultiheadRMSNormOptions{value_dim_head_, o.heads}));
  if (o.hybrid_learned_mix)
    hybrid_mix_ = register_module("hybrid_mix", linear_no_bias(o.dim, o.heads));
}

AttentionImpl::AttentionImpl(AttentionOptions options) : options_(std::move(options)) {
  validate(options_);
  warn_unused(unused_options(options_));
  const auto& o = options_;
  kv_heads_ = key_value_heads(o);
  value_dim_head_ = o.value_dim_head.value_or(o.dim_head);
  rotate_num_heads_ = o.latent_rope_subheads.value_or(o.rotate_num_heads.value_or(o.heads));
  build_projections();
  build_outputs();
  if (o.hybrid_module) build_hybrid();

  std::shared_ptr<CoPE> cope;
  if (o.use_cope) {
    cope = std::make_shared<CoPE>(CoPEOptions{.dim = o.dim_head,
                                              .heads = o.heads,
                                              .max_pos = o.cope_max_pos,
                                              .soft_onehot = o.cope_soft_onehot_pos,
                                              .talking_heads = o.cope_talking_heads});
  }
  const auto& alibi = o.data_dependent_alibi_kwargs;
  if (o.data_dependent_alibi && o.data_dependent_alibi_per_row) {
    per_row_alibi_ =
        register_module("data_dependent_alibi",
                        std::make_shared<PerRowDataDependentAlibi>(PerRowDataDependentAlibiOptions{
                            .dim = o.dim,
                            .heads = o.heads,
                            .dim_head = o.data_dependent_alibi_per_row_dim_head,
                            .post_log_scale = alibi.post_log_scale}));
  } else if (o.data_dependent_alibi) {
    data_dependent_alibi_ =
        register_module("data_dependent_alibi",
                        std::make_shared<DataDependentAlibi>(DataDependentAlibiModuleOptions{
                            o.dim, o.heads, o.causal, alibi.bias_init, alibi.post_log_scale}));
  }

  AttendOptions attend;
  static_cast<ScoreOptions&>(attend) = o;
  attend.compat = o.compat;
  attend.heads = o.heads;
  attend.causal = o.causal;
  attend.qk_norm = o.qk_norm;
  const bool has_own_scale =
      o.qk_norm && (!o.qk_norm_dim_scale || o.compat.meaning().dim_scale_keeps_qk_norm_scale);
  attend.scale = has_own_scale ? o.qk_norm_scale : 1.0 / std::sqrt(static_cast<double>(o.dim_head));
  attend_ = register_module("attend", std::make_shared<Attend>(attend, cope));
}

Spelling AttentionImpl::part_spelling(const torch::nn::Module& part) const {
  if (!hybrid_module_) return {};
  for (const auto& child : hybrid_module_.module->children()) {
    if (child.get() == &part) return below("hybrid_module");
  }
  return {};
}

std::vector<MeaningRead> AttentionImpl::meanings_read() const {
  const auto& o = options_;
  std::vector<MeaningRead> read;
  if (o.qk_norm && o.qk_norm_dim_scale)
    read.push_back({&PythonMeaning::dim_scale_keeps_qk_norm_scale, "qk_norm_dim_scale"});
  if (o.qk_norm && o.qk_norm_groups > 1 && o.num_mem_kv > 0)
    read.push_back({&PythonMeaning::memory_keys_are_one_group, "num_mem_kv"});
  if (!must_project_values(o))
    read.push_back({&PythonMeaning::single_heads_are_projected, "heads"});
  return read;
}

}  // namespace x_transformers
