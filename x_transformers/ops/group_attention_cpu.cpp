#include "x_transformers/ops/group_attention_cpu.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "x_transformers/ops/linear.h"
#include "x_transformers/ops/mask.h"
#include "x_transformers/ops/squared_relu.h"

namespace x_transformers {
namespace {

/// Places in `heads`.
struct HeadPlaces {
  explicit HeadPlaces(LinearReach linear) : key(linear == LinearReach::none ? 1 : 2) {}
  int64_t query = 0, key;
  static constexpr int64_t kLinearQuery = 1, kLinearKey = 3;
};

/// The tensors of one call, and views of one sequence and group.
class GroupLayout {
 public:
  GroupLayout(const at::Tensor& heads, const at::Tensor& hidden, const GroupAttend& how)
      : how_(how),
        heads_(heads),
        width_(hidden.size(2) / 2),
        gate_(hidden.narrow(2, width_, width_)),
        value_(zero_masked_rows(hidden.narrow(2, 0, width_), how.mask)),
        places_(how.linear) {
    if (how.counts.defined())
      counts_ = how.counts.to(at::kFloat).expand({hidden.size(0)}).contiguous();
  }

  int64_t batch() const { return value_.size(0); }
  int64_t tokens() const { return value_.size(1); }
  int64_t size() const { return std::min(how_.group_size, tokens()); }
  int64_t groups() const { return (tokens() + size() - 1) / size(); }
  int64_t width() const { return width_; }
  int64_t features() const { return heads_.size(3); }
  LinearReach linear() const { return how_.linear; }
  const HeadPlaces& places() const { return places_; }
  at::TensorOptions options() const { return heads_.options(); }

  /// Rows of group g of t [n, ...].
  at::Tensor group(const at::Tensor& t, int64_t g) const {
    const auto begin = g * size();
    return t.narrow(0, begin, std::min(size(), tokens() - begin));
  }
  at::Tensor head(int64_t which, int64_t sequence) const { return heads_[which][sequence]; }
  at::Tensor value(int64_t sequence) const { return value_[sequence]; }
  at::Tensor gate(int64_t sequence) const { return gate_[sequence]; }

  double linear_factor(int64_t sequence) const { return how_.linear_scale / count(sequence); }
  /// Quadratic attention of group g.
  SquaredRelu quadratic(int64_t sequence, int64_t g) const {
    const auto divisor = how_.linear == LinearReach::none ? count(sequence) : 1.0;
    SquaredRelu call;
    call.q = group(head(places_.query, sequence), g);
    call.k = group(head(places_.key, sequence), g);
    call.v = group(value(sequence), g);
    call.scale = how_.scale / divisor;
    call.bias = how_.bias;
    call.origin = how_.bias.defined() ? (how_.bias.size(0) - 1) / 2 : 0;
    call.bias_scale = how_.bias_scale / divisor;
    call.causal = how_.causal;
    return call;
  }
  /// How many sums of keys times values there are, and which group g reads; -1: none.
  int64_t sums() const {
    switch (how_.linear) {
      case LinearReach::earlier_groups:
        return groups() - 1;
      case LinearReach::own_group:
        return groups();
      case LinearReach::all:
        return 1;
      default:
        return 0;
    }
  }
  int64_t sum_of(int64_t g) const {
    switch (how_.linear) {
      case LinearReach::earlier_groups:
        return g - 1;
      case LinearReach::own_group:
        return g;
      case LinearReach::all:
        return 0;
      default:
        return -1;
    }
  }

 private:
  double count(int64_t sequence) const {
    return counts_.defined() ? counts_.const_data_ptr<float>()[sequence] : 1.0;
  }

  const GroupAttend& how_;
  at::Tensor heads_;
  int64_t width_;
  at::Tensor gate_, value_, counts_;
  HeadPlaces places_;
};

/// sums [some, d, e] of keys times values of one sequence.
void write_sums(const GroupLayout& at, int64_t sequence, const at::Tensor& sums) {
  const auto keys = at.head(HeadPlaces::kLinearKey, sequence), values = at.value(sequence);
  if (at.linear() == LinearReach::all) return write_product(sums[0], keys.t(), values);
  for (int64_t i = 0; i < at.sums(); ++i) {
    const auto own_keys = at.group(keys, i).t(), own_values = at.group(values, i);
    if (at.linear() == LinearReach::own_group || i == 0) {
      write_product(sums[i], own_keys, own_values);
    } else {
      sums[i].copy_(sums[i - 1]);
      accumulate_product(sums[i], own_keys, own_values);
    }
  }
}

/// The backward pass of one sequence.
class SequenceBackward {
 public:
  SequenceBackward(const GroupLayout& layout, const GroupKept& kept, int64_t sequence,
                   const GroupGradients& gradients, const at::Tensor& out_grad)
      : at_(layout),
        sequence_(sequence),
        relus_(kept.relus[sequence]),
        mixed_(kept.mixed[sequence]),
        sums_(kept.sums.defined() ? kept.sums[sequence] : at::Tensor()),
        heads_grad_(gradients.heads.select(1, sequence)),
        value_grad_(gradients.hidden[sequence].narrow(1, 0, layout.width())),
        bias_grad_(gradients.bias) {
    auto gate_grad = gradients.hidden[sequence].narrow(1, layout.width(), layout.width());
    at::mul_out(gate_grad, out_grad, mixed_);
    mixed_grad_ = out_grad * at_.gate(sequence);
  }

  void run() {
    if (at_.linear() == LinearReach::all) {
      quadratic_of_all();
      read_all();
      return;
    }
    for (int64_t g = at_.groups() - 1; g >= 0; --g) {
      quadratic(g);
      if (at_.linear() == LinearReach::earlier_groups) read_earlier(g);
      if (at_.linear() == LinearReach::own_group) read_own(g);
    }
  }

 private:
  at::Tensor head_grad(int64_t which, int64_t g) const { return at_.group(heads_grad_[which], g); }

  void quadratic(int64_t g) const {
    const auto& places = at_.places();
    squared_relu_backward(at_.quadratic(sequence_, g), at_.group(relus_, g),
                          at_.group(mixed_grad_, g),
                          {head_grad(places.query, g), head_grad(places.key, g),
                           at_.group(value_grad_, g), bias_grad_});
  }
  void quadratic_of_all() const {
    for (int64_t g = 0; g < at_.groups(); ++g) quadratic(g);
  }

  /// Of out += factor * queries sum: the gradient of the queries.
  void write_query_grad(const at::Tensor& to, const at::Tensor& grad, const at::Tensor& sum) const {
    write_product(to, grad, sum.t());
    to.mul_(at_.linear_factor(sequence_));
  }
  at::Tensor scaled_queries(const at::Tensor& queries) const {
    return queries * at_.linear_factor(sequence_);
  }
  /// Of sum = keys^T values.
  void write_key_and_value_grads(const at::Tensor& keys_grad, const at::Tensor& values_grad,
                                 const at::Tensor& keys, const at::Tensor& values) const {
    write_product(keys_grad, values, sum_grad_.t());
    accumulate_product(values_grad, keys, sum_grad_);
  }

  void read_all() {
    const auto queries = at_.head(HeadPlaces::kLinearQuery, sequence_);
    write_query_grad(heads_grad_[HeadPlaces::kLinearQuery], mixed_grad_, sums_[0]);
    sum_grad_ = at::empty_like(sums_[0]);
    write_product(sum_grad_, scaled_queries(queries).t(), mixed_grad_);
    write_key_and_value_grads(heads_grad_[HeadPlaces::kLinearKey], value_grad_,
                              at_.head(HeadPlaces::kLinearKey, sequence_), at_.value(sequence_));
  }

  void read_own(int64_t g) {
    const auto grad = at_.group(mixed_grad_, g);
    const auto queries = at_.group(at_.head(HeadPlaces::kLinearQuery, sequence_), g);
    write_query_grad(head_grad(HeadPlaces::kLinearQuery, g), grad, sums_[g]);
    if (!sum_grad_.defined()) sum_grad_ = at::empty_like(sums_[0]);
    write_product(sum_grad_, scaled_queries(queries).t(), grad);
    write_keys_of(g);
  }

  /// From the last group to the first: sum_grad_ is that of the sum over all groups before the ones
  /// that have been.
  void read_earlier(int64_t g) {
    if (sum_grad_.defined()) {
      write_keys_of(g);
    } else {
      head_grad(HeadPlaces::kLinearKey, g).zero_();
    }
    if (g == 0) {
      head_grad(HeadPlaces::kLinearQuery, g).zero_();
      return;
    }
    const auto grad = at_.group(mixed_grad_, g);
    const auto queries = at_.group(at_.head(HeadPlaces::kLinearQuery, sequence_), g);
    write_query_grad(head_grad(HeadPlaces::kLinearQuery, g), grad, sums_[g - 1]);
    const bool is_first = !sum_grad_.defined();
    if (is_first) sum_grad_ = at::empty_like(sums_[0]);
    (is_first ? write_product : accumulate_product)(sum_grad_, scaled_queries(queries).t(), grad);
  }

  void write_keys_of(int64_t g) const {
    write_key_and_value_grads(head_grad(HeadPlaces::kLinearKey, g), at_.group(value_grad_, g),
                              at_.group(at_.head(HeadPlaces::kLinearKey, sequence_), g),
                              at_.group(at_.value(sequence_), g));
  }

  const GroupLayout& at_;
  int64_t sequence_;
  at::Tensor relus_, mixed_, sums_, heads_grad_, value_grad_, bias_grad_, mixed_grad_;
  at::Tensor sum_grad_;  // [d, e]
};

}  // namespace

at::Tensor group_attend_forward(const at::Tensor& heads, const at::Tensor& hidden,
                                const GroupAttend& how, GroupKept* kept) {
  const GroupLayout layout(heads, hidden, how);
  const auto batch = layout.batch(), n = layout.tokens();
  const auto options = layout.options();
  auto out = at::empty({batch, n, layout.width()}, options);
  if (kept != nullptr) {
    kept->relus = at::empty({batch, n, layout.size()}, options);
    kept->mixed = at::empty_like(out);
    if (layout.sums() > 0)
      kept->sums = at::empty({batch, layout.sums(), layout.features(), layout.width()}, options);
  }
  for_each_part(batch, [&](int64_t i) {
    at::Tensor sums;
    if (layout.sums() > 0) {
      sums = kept != nullptr
                 ? kept->sums[i]
                 : at::empty({layout.sums(), layout.features(), layout.width()}, options);
      write_sums(layout, i, sums);
    }
    for (int64_t g = 0; g < layout.groups(); ++g) {
      auto to = layout.group(out[i], g);
      const auto mixed = kept != nullptr ? layout.group(kept->mixed[i], g) : to;
      const auto call = layout.quadratic(i, g);
      const auto relus = kept != nullptr
                             ? layout.group(kept->relus[i], g).narrow(1, 0, call.k.size(0))
                             : at::Tensor();
      squared_relu_forward(call, relus, mixed);
      if (const auto sum = layout.sum_of(g); sum >= 0) {
        const auto queries = layout.group(layout.head(HeadPlaces::kLinearQuery, i), g);
        accumulate_product(mixed, queries * layout.linear_factor(i), sums[sum]);
      }
      at::mul_out(to, mixed, layout.group(layout.gate(i), g));
    }
  });
  return out;
}

GroupGradients group_attend_backward(const at::Tensor& heads, const at::Tensor& hidden,
                                     const GroupAttend& how, const GroupKept& kept,
                                     const at::Tensor& out_grad) {
  // Sums of the gradient of the bias for parts of the batch, as many as may be made side by side.
  constexpr int64_t kMaxBiasSums = 16;
  const GroupLayout layout(heads, hidden, how);
  const auto batch = layout.batch();
  GroupGradients all{at::empty_like(heads), at::empty_like(hidden), {}};
  const bool has_bias = how.bias.defined();
  const auto parts = has_bias ? std::min(batch, kMaxBiasSums) : batch;
  at::Tensor bias_sums;
  if (has_bias) bias_sums = at::zeros({parts, how.bias.size(0)}, heads.options());
  for_each_part(parts, [&](int64_t part) {
    for (int64_t i = batch * part / parts; i < batch * (part + 1) / parts; ++i) {
      const GroupGradients own{all.heads, all.hidden, has_bias ? bias_sums[part] : at::Tensor()};
      SequenceBackward(layout, kept, i, own, out_grad[i]).run();
    }
  });
  if (how.mask.defined()) {
    auto value_grad = all.hidden.narrow(2, 0, layout.width());
    value_grad.masked_fill_(~how.mask.unsqueeze(-1), 0);
  }
  if (has_bias) all.bias = bias_sums.sum(0);
  return all;
}

}  // namespace x_transformers
