#include "x_transformers/ops/group_attention_cuda.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "x_transformers/ops/column_sums.h"
#include "x_transformers/ops/cuda_launchers.h"
#include "x_transformers/ops/cuda_tensors.h"
#include "x_transformers/ops/fast_path.h"
#include "x_transformers/ops/kernel_tensors.h"

namespace x_transformers {
namespace {

/// out += factor * a b, or out = factor * a b, of batches of matrices.
void multiply(const at::Tensor& out, const at::Tensor& a, const at::Tensor& b, double factor,
              bool adds = false) {
  auto to = out;
  at::baddbmm_out(to, to, a, b, adds ? 1.0 : 0.0, factor);
}

/// Views of a call's tensors: groups, and what linear attention sums over, as batches of matrices.
class GroupViews {
 public:
  GroupViews(const at::Tensor& heads, const at::Tensor& hidden, const GroupAttend& how)
      : how_(how),
        heads_(heads),
        hidden_(hidden),
        batch_(hidden.size(0)),
        n_(hidden.size(1)),
        width_(hidden.size(2) / 2),
        size_(std::min(how.group_size, n_)) {}

  int64_t batch() const { return batch_; }
  int64_t size() const { return size_; }
  int64_t width() const { return width_; }
  int64_t groups() const { return n_ / size_; }
  int64_t matrices() const { return batch_ * groups(); }
  int64_t features() const { return heads_.size(3); }

  /// [b, n, ...] as groups [b groups, size, ...].
  at::Tensor in_groups(const at::Tensor& t) const { return t.view({matrices(), size_, t.size(2)}); }
  at::Tensor query() const { return in_groups(heads_[0]); }
  at::Tensor key() const { return in_groups(heads_[has_linear_heads() ? 2 : 1]); }
  at::Tensor key_of(const at::Tensor& heads) const {
    return in_groups(heads[has_linear_heads() ? 2 : 1]);
  }
  /// The half of hidden [b, n, 2 e] that is values, [b groups, size, e].
  at::Tensor values_of(const at::Tensor& hidden) const {
    return hidden.view({matrices(), size_, 2 * width_}).narrow(2, 0, width_);
  }
  at::Tensor values() const { return values_of(hidden_); }

  /// There are four heads.
  bool has_linear_heads() const { return how_.linear != LinearReach::none; }
  /// Linear attention gives something: a first group alone has none before it.
  bool reads() const {
    return has_linear_heads() && !(how_.linear == LinearReach::earlier_groups && groups() == 1);
  }
  bool shifts() const { return how_.linear == LinearReach::earlier_groups; }
  /// [b, n, ...] as what is summed over: whole sequences, or groups.
  at::Tensor in_sums(const at::Tensor& t) const {
    return how_.linear == LinearReach::all ? t : t.view({matrices(), size_, t.size(2)});
  }
  at::Tensor linear_query(const at::Tensor& heads) const { return in_sums(heads[1]); }
  at::Tensor linear_key(const at::Tensor& heads) const { return in_sums(heads[3]); }
  at::Tensor linear_values(const at::Tensor& hidden) const {
    return in_sums(hidden).narrow(2, 0, width_);
  }
  at::Tensor empty_sums() const {
    const auto count = how_.linear == LinearReach::all ? batch_ : matrices();
    return at::empty({count, features(), width_}, hidden_.options());
  }

 private:
  const GroupAttend& how_;
  at::Tensor heads_, hidden_;
  int64_t batch_, n_, width_, size_;
};

/// Sums [b groups, d, e] of each group become those of the groups before it, or after it.
void sum_others(const GroupViews& views, const at::Tensor& sums, bool backwards) {
  kernels::SumsOfOthers params;
  params.sums = sums.mutable_data_ptr();
  params.element = element_of(sums);
  params.batch = views.batch();
  params.count = views.groups();
  params.size = sums.size(1) * sums.size(2);
  params.backwards = backwards;
  our_cuda_kernels().launchers->sums_of_others(params, sums.device().index());
}

kernels::GateRows gate_params(const at::Tensor& x, const at::Tensor& hidden) {
  kernels::GateRows params;
  params.element = element_of(x);
  params.dim = x.size(2);
  params.rows = x.numel() / params.dim;
  params.x = x.const_data_ptr();
  params.gate = hidden.narrow(2, params.dim, params.dim).const_data_ptr();
  params.gate_stride = hidden.size(2);
  return params;
}

at::Tensor apply_gates(const at::Tensor& mixed, const at::Tensor& hidden) {
  auto out = at::empty_like(mixed);
  auto params = gate_params(mixed, hidden);
  params.out = out.mutable_data_ptr();
  our_cuda_kernels().launchers->gate_rows(params, mixed.device().index());
  return out;
}

/// The gradient of `mixed`; that of the gates goes to their half of hidden_grad.
at::Tensor gate_gradients(const at::Tensor& mixed, const at::Tensor& hidden,
                          const at::Tensor& out_grad, const at::Tensor& hidden_grad) {
  auto mixed_grad = at::empty_like(mixed);
  auto params = gate_params(mixed, hidden);
  params.out_grad = out_grad.const_data_ptr();
  params.out = mixed_grad.mutable_data_ptr();
  params.gate_grad = hidden_grad.narrow(2, params.dim, params.dim).mutable_data_ptr();
  our_cuda_kernels().launchers->gate_rows(params, mixed.device().index());
  return mixed_grad;
}

/// Products [b groups, size, size] become the relus of scores; returns their squares.
at::Tensor make_weights(const GroupViews& views, const GroupAttend& how,
                        const at::Tensor& products) {
  auto weights = at::empty_like(products);
  const auto bias = how.bias.defined() ? how.bias.to(at::kFloat).contiguous() : at::Tensor();
  kernels::GroupWeights params;
  params.products = products.const_data_ptr();
  params.relus = products.mutable_data_ptr();
  params.weights = weights.mutable_data_ptr();
  params.element = element_of(products);
  params.matrices = views.matrices();
  params.size = views.size();
  params.scale = static_cast<float>(how.scale);
  params.bias_scale = static_cast<float>(how.bias_scale);
  params.bias = data_or_null(bias);
  params.middle = bias.defined() ? (bias.size(0) - 1) / 2 : 0;
  params.causal = how.causal;
  our_cuda_kernels().launchers->group_weights(params, products.device().index());
  return weights;
}

/// Gradients of weights become those of scores; returns the bias's.
at::Tensor score_gradients(const GroupViews& views, const GroupAttend& how, const at::Tensor& relus,
                           const at::Tensor& grads) {
  const auto& launchers = *our_cuda_kernels().launchers;
  const auto diagonals = 2 * views.size() - 1;
  kernels::GroupWeightsBackward params;
  params.relus = relus.const_data_ptr();
  params.grads = grads.mutable_data_ptr();
  params.element = element_of(grads);
  params.matrices = views.matrices();
  params.size = views.size();
  params.causal = how.causal;
  at::Tensor sums;
  if (how.bias.defined()) {
    sums = at::empty({params.matrices * launchers.group_weights_chunks(params.size), diagonals},
                     grads.options().dtype(at::kFloat));
    params.bias_grad = sums.mutable_data_ptr<float>();
  }
  launchers.group_weights_backward(params, grads.device().index());
  if (!sums.defined()) return {};
  const auto own = column_sums(sums, at::kFloat) * how.bias_scale;
  const auto beyond = (how.bias.size(0) - diagonals) / 2;
  return (beyond > 0 ? at::constant_pad_nd(own, {beyond, beyond}, 0) : own)
      .to(how.bias.scalar_type());
}

}  // namespace

Reasons group_attend_cuda_reasons(const at::Tensor& heads, const at::Tensor& hidden,
                                  const GroupAttend& how) {
  auto reasons = cuda_kernel_reasons(hidden, "hidden");
  add_unlike(reasons, hidden, heads, "heads");
  add_unlike(reasons, hidden, how.bias, "bias");
  reasons.add_if(how.fn != GatedAttnFn::relu_squared, "it knows the squared relu alone");
  reasons.add_if(how.dropout > 0, "it has no dropout");
  reasons.add_if(how.counts.defined(), "it has no counts");
  reasons.add_if(hidden.numel() == 0 || heads.numel() == 0, "there are no numbers");
  return reasons;
}

at::Tensor group_attend_forward_on_cuda(const at::Tensor& heads, const at::Tensor& hidden,
                                        const GroupAttend& how, GroupKept* kept) {
  const GroupViews views(heads, hidden, how);
  const auto relus = at::bmm(views.query(), views.key().transpose(1, 2));
  const auto weights = make_weights(views, how, relus);
  const auto mixed = at::empty({views.batch(), hidden.size(1), views.width()}, hidden.options());
  multiply(views.in_groups(mixed), weights, views.values(), 1.0);
  at::Tensor sums;
  if (views.reads()) {
    sums = views.empty_sums();
    multiply(sums, views.linear_key(heads).transpose(1, 2), views.linear_values(hidden), 1.0);
    if (views.shifts()) sum_others(views, sums, /*backwards=*/false);
    multiply(views.in_sums(mixed), views.linear_query(heads), sums, how.linear_scale,
             /*adds=*/true);
  }
  if (kept != nullptr) *kept = {relus, weights, mixed, sums};
  return apply_gates(mixed, hidden);
}

GroupGradients group_attend_backward_on_cuda(const at::Tensor& heads, const at::Tensor& hidden,
                                             const GroupAttend& how, const GroupKept& kept,
                                             const at::Tensor& out_grad) {
  const GroupViews views(heads, hidden, how);
  GroupGradients all{at::empty_like(heads), at::empty_like(hidden), {}};
  const auto mixed_grad = gate_gradients(kept.mixed, hidden, out_grad, all.hidden);
  const auto grad = views.in_groups(mixed_grad);
  multiply(views.values_of(all.hidden), kept.weights.transpose(1, 2), grad, 1.0);
  const auto score_grad = at::bmm(grad, views.values().transpose(1, 2));
  all.bias = score_gradients(views, how, kept.relus, score_grad);
  multiply(views.in_groups(all.heads[0]), score_grad, views.key(), how.scale);
  multiply(views.key_of(all.heads), score_grad.transpose(1, 2), views.query(), how.scale);
  if (!views.has_linear_heads()) return all;
  const auto query_grad = views.linear_query(all.heads), key_grad = views.linear_key(all.heads);
  if (!views.reads()) {
    all.heads[1].zero_();
    all.heads[3].zero_();
    return all;
  }
  const auto read_grad = views.in_sums(mixed_grad);
  multiply(query_grad, read_grad, kept.sums.transpose(1, 2), how.linear_scale);
  const auto sums_grad = views.empty_sums();
  multiply(sums_grad, views.linear_query(heads).transpose(1, 2), read_grad, how.linear_scale);
  if (views.shifts()) sum_others(views, sums_grad, /*backwards=*/true);
  multiply(key_grad, views.linear_values(hidden), sums_grad.transpose(1, 2), 1.0);
  multiply(views.linear_values(all.hidden), views.linear_key(heads), sums_grad, 1.0,
           /*adds=*/true);
  return all;
}

}  // namespace x_transformers
