#include "x_transformers/nn/attention.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <tuple>
#include <utility>
#include <vector>

#include "x_transformers/core/cloned.h"
#include "x_transformers/core/error.h"
#include "x_transformers/core/format.h"
#include "x_transformers/core/probe.h"
#include "x_transformers/core/tensor_check.h"
#include "x_transformers/ops/heads.h"
#include "x_transformers/ops/linear_ends.h"
#include "x_transformers/ops/linear_three.h"
#include "x_transformers/ops/mask.h"
#include "x_transformers/ops/norm.h"
#include "x_transformers/ops/rows.h"

namespace x_transformers {

namespace {

/// What is left of x [b, ...] without its part along y, each flattened (in double, as small parts
/// remain).
at::Tensor orthogonal_part(const at::Tensor& x, const at::Tensor& y) {
  const auto flat = x.flatten(1).to(at::kDouble);
  const auto direction = y.flatten(1).to(at::kDouble);
  const auto unit = direction / direction.norm(2, -1, true).clamp_min(1e-12);
  return (flat - (flat * unit).sum(-1, true) * unit).to(x.scalar_type()).view_as(x);
}

}  // namespace

std::string AttentionImpl::sight_limits() const {
  std::string text;
  if (options_.max_attend_past)
    text += fmt::format(", {} back at most", how_many(*options_.max_attend_past, "token"));
  if (options_.num_mem_kv > 0)
    text += fmt::format(", and {} memory keys and values", options_.num_mem_kv);
  return text;
}

KeptAttendCall AttentionImpl::usual_call(int64_t tokens) const {
  const auto tensor = [&](int64_t heads, int64_t d) {
    return at::zeros({1}).expand({1, heads, tokens, d});
  };
  return {tensor(options_.heads, options_.dim_head), tensor(kv_heads_, options_.dim_head),
          tensor(kv_heads_, value_dim_head_), attend_->program(options_.dim_head, {})};
}

/// Multi-latent attention: what keys and values are made of is itself what is cached.
void AttentionImpl::project_latent(const AttentionInputs& inputs, Projected& p) {
  const auto kv_input = p.k;
  p.latent = to_latent_kv_->forward(kv_input);
  if (to_rotateable_k_)
    p.sub_heads = split_heads(to_rotateable_k_->forward(kv_input), *options_.latent_rope_subheads);
  if (inputs.cache) std::tie(p.latent, p.sub_heads) = inputs.cache->append(p.latent, p.sub_heads);
  // There may be none: all heads may skip the latent.
  const auto latent_heads = to_k_->options.out_features() / options_.dim_head;
  p.k = to_k_->forward(p.latent).unflatten(-1, {latent_heads, options_.dim_head}).transpose(1, 2);
  p.v = split_heads(to_v_->forward(p.latent), kv_heads_);
  if (p.sub_heads.defined()) p.k = at::cat({p.k, p.sub_heads}, 1);
}

/// Whether x is read by products that can normalise it on their way, and by nothing else: that of
/// queries, keys and values together, and that of the gates of values.
bool AttentionImpl::normalises_input(const AttentionInputs& inputs) const {
  const bool is_changed = inputs.context.defined() || inputs.mem.defined() ||
                          inputs.kv_input_residual.defined() ||
                          options_.qkv_receive_diff_residuals || to_latent_q_ || to_latent_kv_;
  const bool is_read_again = to_v_head_gate_ || to_value_residual_mix_ || data_dependent_alibi_ ||
                             per_row_alibi_ || hybrid_module_;
  return !is_changed && !is_read_again;
}

/// Whether the output is what the last product gives, so that a residual can be added there.
bool AttentionImpl::ends_with_product(const AttentionInputs& inputs) const {
  const bool hides_rows = inputs.mask.defined() && !inputs.goes_on();
  return !hides_rows && !options_.on_attn && !(options_.sublayer_dropout > 0 && is_training());
}

AttentionImpl::Projected AttentionImpl::project(const AttentionInputs& inputs) {
  Projected p;
  at::Tensor k_input, v_input;
  if (options_.qkv_receive_diff_residuals) {
    p.q_input = inputs.x[0];
    k_input = inputs.x[1];
    v_input = inputs.x[2];
  } else {
    p.q_input = inputs.x;
    k_input = v_input = inputs.context.defined() ? inputs.context : inputs.x;
  }
  if (inputs.kv_input_residual.defined()) {
    k_input = k_input + inputs.kv_input_residual;
    v_input = v_input + inputs.kv_input_residual;
  }
  if (inputs.mem.defined()) {
    p.mem_length = inputs.mem.size(1);
    v_input = cat_rows(inputs.mem, v_input, 1);
    k_input = options_.qkv_receive_diff_residuals ? cat_rows(inputs.mem, k_input, 1) : v_input;
  }
  p.x = p.q_input;
  if (to_latent_q_) p.q_input = to_latent_q_->forward(p.q_input);
  const bool is_one_input = k_input.is_same(p.q_input) && v_input.is_same(p.q_input);
  if (is_one_input && !to_latent_kv_) {
    const auto qkv = linear_three(
        p.q_input, {to_q_->weight, to_k_->weight, to_v_->weight},
        {.norm = inputs.ends.norm, .side_by_side = !options_.qk_norm && !inputs.cache});
    p.q = split_heads(qkv[0], options_.heads);
    p.k = split_heads(qkv[1], kv_heads_);
    p.v = split_heads(qkv[2], kv_heads_);
    p.orig_values = p.v;
    return p;
  }
  p.q = split_heads(to_q_->forward(p.q_input), options_.heads);
  if (to_latent_kv_) {
    p.k = std::move(k_input);
    project_latent(inputs, p);
  } else {
    p.k = split_heads(to_k_->forward(k_input), kv_heads_);
    p.v = split_heads(to_v_->forward(v_input), kv_heads_);
  }
  p.orig_values = p.v;
  return p;
}

/// Value residual (arXiv:2410.17897) and value norm.
void AttentionImpl::mix_values(const AttentionInputs& inputs, Projected& p) {
  if (inputs.value_residual.defined()) {
    const auto& residual = inputs.value_residual;
    const bool has_all_heads =
        to_value_residual_mix_ && residual.dim() == 4 && residual.size(1) == options_.heads;
    require_broadcast(residual, "value_residual", TensorKind::floating,
                      {{"batch", p.q.size(0)},
                       {"heads", has_all_heads ? options_.heads : p.v.size(1)},
                       {"keys", p.v.size(2)},
                       {"value_dim_head", p.v.size(3)}});
    if (to_value_residual_mix_) {
      const auto mixes = p.x.size(1), values = p.v.size(2);
      require(mixes == 1 || mixes == values, at("learned_value_residual_mix"),
              "has a mix for each of {} queries, but there are {} values", mixes, values);
      const auto mix = to_value_residual_mix_->forward(p.x).sigmoid().transpose(1, 2).unsqueeze(-1);
      show(*this, probed::kValueMix, mix);
      p.v = at::lerp(repeat_heads(inputs.value_residual, options_.heads),
                     repeat_heads(p.v, options_.heads), mix);
    } else {
      p.v = at::lerp(inputs.value_residual, p.v, 0.5);
    }
    p.k = with_rows(p.k, p.v.size(0));
  }
  if (value_rmsnorm_) p.v = value_rmsnorm_->forward(repeat_heads(p.v, options_.heads));
}

void AttentionImpl::normalise_qk(Projected& p) const {
  if (!options_.qk_norm) return;
  p.q = l2norm(p.q, options_.qk_norm_groups);
  p.k = l2norm(p.k, options_.qk_norm_groups);
  if (qk_norm_q_scale_.defined()) {
    p.q = p.q * qk_norm_q_scale_;
    p.k = p.k * qk_norm_k_scale_;
  }
}

/// Factors and gates on the heads' outputs [b, h, n, d].
at::Tensor AttentionImpl::gate(const at::Tensor& x, at::Tensor out) {
  if (options_.laser) out = out.clamp_min(1e-20).log();
  if (head_scale_params_.defined()) out = out * head_scale_params_;
  if (to_v_head_gate_) {
    const auto gates = to_v_head_gate_->forward(x).sigmoid().transpose(1, 2).unsqueeze(-1);
    show(*this, probed::kHeadGates, gates);
    out = out * gates;
  }
  return out;
}

at::Tensor AttentionImpl::project_orthogonally(const at::Tensor& out,
                                               const at::Tensor& values) const {
  const auto own = merge_heads(repeat_heads(values, options_.heads));
  std::vector<at::Tensor> parts;
  // Python flattens tokens and heads before projecting, in both forms.
  if (options_.orthog_projected_values) parts.push_back(orthogonal_part(out, own));
  if (options_.orthog_projected_values_per_head) parts.push_back(orthogonal_part(out, own));
  return at::cat(parts, -1);
}

/// The norm of `ends`, if any, is yet to be done to x; the residual, unless undefined, is added to
/// the last product.
at::Tensor AttentionImpl::output(const Projected& p, at::Tensor out, const BranchEnds& ends) {
  if (to_v_gate_) {
    const auto gates = linear_with_ends(
        p.x, to_v_gate_->weight, to_v_gate_->bias,
        {.norm = ends.norm,
         .activation = options_.swiglu_values ? Activation::silu : Activation::sigmoid,
         .weights_are_old = true});
    show(*this, probed::kValueGates, gates);
    out = out * gates;
  }
  if (options_.orthog_projected_values || options_.orthog_projected_values_per_head) {
    require(p.orig_values.size(2) >= out.size(1), at("orthog_projected_values"),
            "need a value for each of {} queries, but the context has {}", out.size(1),
            p.orig_values.size(2));
    const auto own = p.orig_values.narrow(2, p.orig_values.size(2) - out.size(1), out.size(1));
    out = project_orthogonally(out, own);
  }
  if (ends.residual.defined()) {
    if (!to_out_) return out + ends.residual;
    return linear_with_ends(out, to_out_->weight, to_out_->bias,
                            {.weights_are_old = true, .residual = ends.residual});
  }
  if (to_out_) out = to_out_->forward(out);
  if (options_.on_attn) out = at::glu(out, -1);
  if (options_.sublayer_dropout > 0)
    out = at::dropout(out, options_.sublayer_dropout, is_training());
  return out;
}

AttentionOutput AttentionImpl::forward(const AttentionInputs& inputs) {
  auto read = inputs;
  drop_unread(read);
  return attend(std::move(read));
}

BranchOutput AttentionImpl::run(const BranchInputs& branch) {
  AttentionInputs inputs;
  static_cast<BranchInputs&>(inputs) = branch;
  if (branch.mixing) static_cast<MixingInputs&>(inputs) = *branch.mixing;
  inputs.cache = static_cast<AttentionState*>(branch.state);
  if (inputs.cache) inputs.hybrid_hidden = inputs.cache->hybrid_hidden;
  return attend(std::move(inputs));
}

/// What a call of Attend is told, but for masks. `key_visible` [b, sequence_keys] may be undefined.
Attend::Call AttentionImpl::call_of(const AttentionInputs& inputs, const at::Tensor& x,
                                    const Counts& counts, const at::Tensor& key_visible) {
  check_pairs(inputs, counts);
  Attend::Call call;
  const bool is_step = inputs.cache && !inputs.context.defined() && !inputs.mem.defined() &&
                       counts.queries == 1 && !inputs.additional_key_value_mask.defined();
  if (is_step && inputs.cache->filled_keys().defined()) {
    call.cached = {inputs.cache->filled_keys(), key_visible, options_.max_attend_past,
                   counts.keys - counts.sequence_keys};
  }
  place_scores(inputs, x, counts.sequence_keys, counts.keys, call);
  call.prev_attn = inputs.prev_attn;
  call.keep_maps = inputs.keep_maps;
  call.packed = inputs.packed;
  call.documents = inputs.documents;
  return call;
}

/// Normalises, rotates, appends to the cache, and attends.
AttendResult AttentionImpl::attend_sequence(const AttentionInputs& inputs, Projected& p,
                                            AttentionOutput& result) {
  std::optional<Attend::Call> call;
  if (may_append(inputs, p)) {
    const auto capacity = inputs.cache->filled_keys().capacity;
    call = call_of(inputs, p.x, {1, capacity, capacity}, key_mask(inputs, capacity));
    if (auto attended = attend_appending(inputs, p, *call)) return std::move(*attended);
  }
  normalise_qk(p);
  if (inputs.keep_cache)
    std::tie(result.kept.keys, result.kept.values) = kept_keys_values(inputs, p);
  rotate(inputs, p);
  append_to_cache(inputs, p);

  const auto queries = p.q.size(2), sequence_keys = p.k.size(2);
  const auto of_sequence = key_mask(inputs, sequence_keys);
  const auto key_visible = add_memory_key_values(inputs, p, of_sequence);
  const auto keys = p.k.size(2);
  if (options_.laser) {
    p.v = ((p.v / options_.laser_softclamp_value).tanh() * options_.laser_softclamp_value).exp();
  }
  if (call) {
    Attend::add_keys_in_front(*call, keys - sequence_keys);
  } else {
    call = call_of(inputs, p.x, {queries, sequence_keys, keys}, of_sequence);
  }
  call->window = plain_window(inputs, sequence_keys, keys);
  call->mask = pair_mask(inputs, queries, sequence_keys, keys);
  if (key_visible.defined())
    call->mask = mask_and(call->mask, key_visible.unsqueeze(1).unsqueeze(1));
  call->shared_keys = keys - sequence_keys;
  return attend_->forward(p.q, p.k, p.v, *call);
}

AttentionOutput AttentionImpl::attend(AttentionInputs inputs) {
  // As in Python, one batch entry beside several is repeated; with a cache it stands for itself.
  if (!inputs.cache && inputs.x.dim() >= 3 && inputs.x.size(-3) == 1)
    inputs.x = with_rows(inputs.x, count_batch_entries(inputs), inputs.x.dim() - 3);
  check(inputs);
  if (inputs.ends.norm && !normalises_input(inputs)) {
    inputs.x = normalised(inputs.x, *inputs.ends.norm);
    inputs.ends.norm.reset();
  }
  // A context whose keys and values are cached is not projected again.
  const bool goes_on = inputs.goes_on();
  if (inputs.context.defined() && goes_on) {
    inputs.context = inputs.context.narrow(1, 0, 0);
    inputs.kv_input_residual = at::Tensor();
  }

  auto p = project(inputs);
  mix_values(inputs, p);
  AttentionOutput result;
  auto attended = attend_sequence(inputs, p, result);
  auto heads = gate(p.x, attended.out);
  if (hybrid_module_) heads = mix_hybrid(inputs, p.x, heads, result);
  const auto& residual = inputs.ends.residual;
  const bool adds = residual.defined() && ends_with_product(inputs);
  result.out = output(p, merge_heads(heads), {inputs.ends.norm, adds ? residual : at::Tensor()});
  if (!goes_on) result.out = zero_masked_rows(result.out, inputs.mask);
  if (residual.defined() && !adds) result.out = result.out + residual;
  result.maps = std::move(attended.maps);
  result.values = p.orig_values;
  if (inputs.keep_cache) result.kept.hidden = result.hybrid_hidden;
  return result;
}

std::shared_ptr<torch::nn::Module> AttentionImpl::clone(
    const std::optional<torch::Device>& device) const {
  return cloned(*this, device, [&] { return std::make_shared<AttentionImpl>(options_); });
}

std::vector<at::Tensor> AttentionImpl::muon_parameters() const {
  std::vector<at::Tensor> parameters = to_v_->parameters();
  if (!to_out_) return parameters;
  for (const at::Tensor& parameter : to_out_->parameters()) parameters.push_back(parameter);
  return parameters;
}

}  // namespace x_transformers
