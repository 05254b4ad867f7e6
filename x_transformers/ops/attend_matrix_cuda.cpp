// Attention whose scores are looked at all of a query, or all of a head, at once, by CUDA kernels
// of ours: talking heads, contextual positions, selective attention, the largest scores only.
//
// The matrix of scores is made for a block of queries at a time and only for the keys that the
// block may see. Nothing of it is kept for the backward pass, which makes it again.
#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "x_transformers/ops/attend_engine.h"
#include "x_transformers/ops/cuda_launchers.h"
#include "x_transformers/ops/fast_path.h"
#include "x_transformers/ops/heads.h"
#include "x_transformers/ops/kernel_tensors.h"

namespace x_transformers {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// How large the matrix of a block is meant to be: larger ones leave the cache, smaller ones
/// leave multiprocessors idle.
constexpr int64_t kBlockBytes = int64_t{96} << 20;
constexpr int64_t kMinQueries = 64;  ///< of a block, and of what it is a multiple

struct MatrixParameters {
  double scale = 1.0;
  bool causal = false, selective = false, straight_through = false;
  std::optional<int64_t> window;
  int64_t topk = 0;
  /// Heads mixed: for factors of the weights, before and after the softmax; the table of positions.
  at::Tensor factor_heads, score_heads, weight_heads, table;
  at::Tensor mask;

  bool mixes_heads() const {
    return factor_heads.defined() || score_heads.defined() || weight_heads.defined();
  }
  bool has_more_than_others() const {
    return selective || topk > 0 || table.defined() || mixes_heads();
  }
};

const KnownStages<MatrixParameters>& matrix_stages() {
  using Call = AttendCall;
  using P = MatrixParameters;
  using R = Reasons;
  static const auto all =
      KnownStages<MatrixParameters>()
          .add<stages::DotProduct>([](const auto& s, const Call&, P& p, R&) { p.scale = s.scale; })
          .add<stages::PreScalePostTalkingHeads>(
              [](const auto& s, const Call&, P& p, R&) { p.factor_heads = s.heads; })
          .add<stages::PreTalkingHeads>(
              [](const auto& s, const Call&, P& p, R&) { p.score_heads = s.heads; })
          .add<stages::Mask>([](const auto& s, const Call&, P& p, R&) { p.mask = s.allowed; })
          .add<stages::Causal>([](const auto&, const Call&, P& p, R&) { p.causal = true; })
          .add<stages::Window>([](const auto& s, const Call&, P& p, R&) { p.window = s.past; })
          .add<stages::Cope>([](const auto& s, const Call&, P& p, R& reasons) {
            p.table = s.table;
            reasons.add_if(!s.table.defined(), "cope with soft_onehot or talking_heads");
          })
          .add<stages::Selective>([](const auto&, const Call&, P& p, R& reasons) {
            p.selective = true;
            reasons.add_if(p.score_heads.defined(), "selective beside pre_talking_heads");
            reasons.add_if(p.table.defined(), "selective beside cope");
          })
          .add<stages::Softmax>()
          .add<stages::SparseTopk>([](const auto& s, const Call&, P& p, R&) {
            p.topk = s.count;
            p.straight_through = s.straight_through;
          })
          .add<stages::PostTalkingHeads>(
              [](const auto& s, const Call&, P& p, R&) { p.weight_heads = s.heads; });
  return all;
}

/// The program again, for gradients of gradients.
ScoreProgram program_of(const MatrixParameters& p) {
  ScoreProgram program;
  program.set(stages::DotProduct{p.scale});
  if (p.factor_heads.defined()) program.set(stages::PreScalePostTalkingHeads{p.factor_heads});
  if (p.score_heads.defined()) program.set(stages::PreTalkingHeads{p.score_heads});
  if (p.mask.defined()) program.set(stages::Mask{p.mask});
  if (p.causal) program.set(stages::Causal());
  if (p.window) program.set(stages::Window{*p.window});
  if (p.table.defined()) program.set(stages::Cope{.table = p.table});
  if (p.selective) program.set(stages::Selective());
  if (p.topk > 0) program.set(stages::SparseTopk{p.topk, p.straight_through});
  if (p.weight_heads.defined()) program.set(stages::PostTalkingHeads{p.weight_heads});
  return program;
}

/// float32 [h, h], dense; undefined stays so.
at::Tensor weights_of_heads(const at::Tensor& heads) {
  return heads.defined() ? heads.detach().to(at::kFloat).contiguous() : heads;
}

/// sum + factor * a b, the product [n, ...] in float32, to `sum`.
void add_product(at::Tensor sum, const at::Tensor& a, const at::Tensor& b, double factor = 1.0) {
  at::baddbmm_out(sum, sum, a, b, at::kFloat, 1, factor);
}

/// Queries begin.. to below end, and the keys that they may see, key_begin.. to below key_end.
struct Block {
  int64_t begin, end, key_begin, key_end;

  int64_t queries() const { return end - begin; }
  int64_t keys() const { return key_end - key_begin; }
  /// t [n, queries, ...] or [n, keys, ...] of the block.
  at::Tensor of_queries(const at::Tensor& t) const { return t.narrow(1, begin, queries()); }
  at::Tensor of_keys(const at::Tensor& t) const { return t.narrow(1, key_begin, keys()); }
};

/// What is made of the scores of a block, each [b, h, queries, keys] unless it says otherwise.
struct BlockScores {
  at::Tensor products;  ///< of queries and keys
  at::Tensor mixed;     ///< products with score_heads, else the same
  at::Tensor found;     ///< [b * h, queries, positions]: what each query finds in the table
  at::Tensor scores;    ///< as the softmax gets them, but for the gate
  at::Tensor log_sum_exp, least;  ///< [b, h, queries], float32: what the softmax is made of again
  at::Tensor normalised;          ///< by the softmax
  at::Tensor mixed_weights;       ///< with weight_heads, else the same
  at::Tensor factors;             ///< of the weights; undefined: none
  at::Tensor weights;             ///< of the values
};

/// One call: its tensors as the products take them, [b * h, n, d] each, and its kernels.
class Matrix {
 public:
  Matrix(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const MatrixParameters& p)
      : p_(p),
        batch_(q.size(0)),
        heads_(q.size(1)),
        queries_(q.size(2)),
        keys_(k.size(2)),
        q_(q.contiguous().flatten(0, 1)),
        k_(k.contiguous().flatten(0, 1)),
        v_(v.contiguous().flatten(0, 1)),
        factor_heads_(weights_of_heads(p.factor_heads)),
        score_heads_(weights_of_heads(p.score_heads)),
        weight_heads_(weights_of_heads(p.weight_heads)) {
    if (p.table.defined()) table_ = p.table.detach().to(q.scalar_type()).contiguous();
    if (p.mask.defined()) mask_ = p.mask.expand({batch_, heads_, queries_, keys_});
    if (p.selective) make_gate();
  }

  /// [b, h, i, dv]
  at::Tensor out() const {
    const auto out = at::empty({q_.size(0), queries_, v_.size(2)}, q_.options());
    for (const auto& block : blocks()) {
      auto to = block.of_queries(out);
      if (block.keys() == 0) {
        to.zero_();
      } else {
        at::bmm_out(to, scores_of(block).weights.flatten(0, 1), block.of_keys(v_));
      }
    }
    return out.unflatten(0, {batch_, heads_});
  }

  /// Of q, k, v, factor_heads, score_heads, weight_heads and table; undefined where there is none.
  variable_list gradients(const at::Tensor& out_grad) const {
    const auto dense_grad = out_grad.contiguous().flatten(0, 1);
    auto to = zero_gradients();
    for (const auto& block : blocks()) {
      if (block.keys() > 0) add_gradients(block, dense_grad, to);
    }
    if (gate_.defined()) add_gradients_of_gate(to);
    const auto split = [&](const at::Tensor& t) {
      return t.to(q_.scalar_type()).unflatten(0, {batch_, heads_});
    };
    const auto as = [](const at::Tensor& gradient, const at::Tensor& of) {
      return of.defined() ? gradient.to(of.scalar_type()) : at::Tensor();
    };
    return {split(to.q),
            split(to.k),
            split(to.v),
            as(to.factor_heads, p_.factor_heads),
            as(to.score_heads, p_.score_heads),
            as(to.weight_heads, p_.weight_heads),
            table_.defined() ? as(to.table.sum(0), p_.table) : at::Tensor()};
  }

 private:
  /// Sums over blocks, in float32 where more than one adds to the same number.
  struct Gradients {
    at::Tensor q, k, v, factor_heads, score_heads, weight_heads;
    at::Tensor table;    ///< [b * h, positions, d]
    at::Tensor gate;     ///< like the gate
    at::Tensor partial;  ///< room for those of heads
  };

  const kernels::CudaLaunchers& launchers() const { return *our_cuda_kernels().launchers; }
  int8_t device() const { return q_.device().index(); }
  at::TensorOptions floats() const { return q_.options().dtype(at::kFloat); }
  /// The key position of the first query.
  int64_t first() const { return keys_ - queries_; }
  Block whole() const { return {0, queries_, 0, keys_}; }

  std::vector<Block> blocks() const {
    constexpr int64_t kMultiple = 8;  // of keys, so that 16 bytes are read at once
    const auto of_query = batch_ * heads_ * keys_ * static_cast<int64_t>(q_.element_size());
    const auto fitting = kBlockBytes / of_query / kMinQueries * kMinQueries;
    const auto size = std::max(kMinQueries, fitting);
    std::vector<Block> all;
    for (int64_t begin = 0; begin < queries_; begin += size) {
      Block block{begin, std::min(queries_, begin + size), 0, keys_};
      if (p_.causal) {
        const auto seen = std::max<int64_t>(0, block.end + first());
        block.key_end = std::min(keys_, (seen + kMultiple - 1) / kMultiple * kMultiple);
      }
      if (p_.window) {
        const auto unseen = std::max<int64_t>(0, begin + first() - *p_.window);
        block.key_begin = std::min(block.key_end, unseen / kMultiple * kMultiple);
      }
      all.push_back(block);
    }
    return all;
  }

  at::Tensor matrix_of(const Block& block, int64_t heads) const {
    return at::empty({batch_, heads, block.queries(), block.keys()}, q_.options());
  }

  kernels::ScoreRows rows_of(const Block& block, int64_t heads) const {
    kernels::ScoreRows rows;
    rows.element = element_of(q_);
    rows.batch = batch_;
    rows.heads = heads;
    rows.queries = block.queries();
    rows.keys = block.keys();
    rows.first = first() + block.begin - block.key_begin;
    rows.causal = p_.causal;
    rows.window = p_.window.value_or(-1);
    if (mask_.defined()) {
      const auto mask =
          mask_.narrow(2, block.begin, block.queries()).narrow(3, block.key_begin, block.keys());
      rows.mask = mask.const_data_ptr<bool>();
      for (int i = 0; i < 4; ++i) rows.mask_strides[i] = mask.stride(i);
    }
    return rows;
  }

  at::Tensor mixed(const at::Tensor& heads, const at::Tensor& t, bool added) const {
    return mixed(heads, t, added, {heads_, 1});
  }
  /// The gradient of t, of that of mixed().
  at::Tensor mixed_back(const at::Tensor& heads, const at::Tensor& grad, bool added) const {
    return mixed(heads, grad, added, {1, heads_});
  }
  at::Tensor mixed(const at::Tensor& heads, const at::Tensor& t, bool added,
                   const std::pair<int64_t, int64_t>& strides) const {
    auto to = at::empty_like(t);
    kernels::MixHeads params;
    params.element = element_of(t);
    params.from = t.const_data_ptr();
    params.to = to.mutable_data_ptr();
    params.weights = data_or_null(heads);
    params.weight_strides[0] = strides.first;
    params.weight_strides[1] = strides.second;
    params.added = added;
    params.batch = batch_;
    params.heads = heads_;
    params.positions = t.size(2) * t.size(3);
    launchers().mix_heads(params, device());
    return to;
  }
  /// Adds the gradient of `heads` that mixed t.
  void add_gradient_of_heads(const at::Tensor& heads_grad, const at::Tensor& t,
                             const at::Tensor& mixed_grad, const at::Tensor& partial) const {
    kernels::MixHeadsWeights params;
    params.element = element_of(t);
    params.from = t.const_data_ptr();
    params.to_grad = mixed_grad.const_data_ptr();
    params.weights_grad = mutable_data_or_null(heads_grad);
    params.accumulates = true;
    params.partial = mutable_data_or_null(partial);
    params.batch = batch_;
    params.heads = heads_;
    params.positions = t.size(2) * t.size(3);
    launchers().mix_heads_weights(params, device());
  }

  kernels::CountedPositions positions_of(const Block& block, const BlockScores& made) const {
    kernels::CountedPositions params;
    params.rows = rows_of(block, heads_);
    params.scores = made.mixed.const_data_ptr();
    params.table = made.found.const_data_ptr();
    params.positions = table_.size(0);
    params.sums = made.scores.mutable_data_ptr();
    return params;
  }

  kernels::ScoreSoftmax softmax_of(const Block& block, const BlockScores& made) const {
    kernels::ScoreSoftmax params;
    params.rows = rows_of(block, heads_);
    params.scores = made.scores.const_data_ptr();
    params.weights = made.normalised.mutable_data_ptr();
    params.log_sum_exp = mutable_data_or_null(made.log_sum_exp);
    params.topk = p_.topk;
    params.straight_through = p_.straight_through;
    params.least = mutable_data_or_null(made.least);
    if (gate_.defined()) {
      const auto gate = of_block(gate_, block);
      params.gate = gate.const_data_ptr();
      params.gate_strides[0] = gate.stride(0);
      params.gate_strides[1] = gate.stride(2);
    }
    return params;
  }

  BlockScores scores_of(const Block& block) const {
    BlockScores made;
    const auto queries = block.of_queries(q_);
    made.products = matrix_of(block, heads_);
    auto products = made.products.flatten(0, 1);
    at::baddbmm_out(products, products, queries, block.of_keys(k_).transpose(1, 2), 0, p_.scale);
    if (factor_heads_.defined()) made.factors = mixed(factor_heads_, made.products, false);
    made.mixed = score_heads_.defined() ? mixed(score_heads_, made.products, true) : made.products;
    made.scores = made.mixed;
    if (table_.defined()) {
      made.found = at::matmul(queries, table_.t());
      made.scores = matrix_of(block, heads_);
      launchers().counted_positions_forward(positions_of(block, made), device());
    }
    made.log_sum_exp = at::empty({batch_, heads_, block.queries()}, floats());
    if (p_.topk > 0) made.least = at::empty_like(made.log_sum_exp);
    made.normalised = matrix_of(block, heads_);
    launchers().score_softmax_forward(softmax_of(block, made), device());
    made.mixed_weights =
        weight_heads_.defined() ? mixed(weight_heads_, made.normalised, false) : made.normalised;
    made.weights = made.factors.defined() ? made.mixed_weights * made.factors : made.mixed_weights;
    return made;
  }

  Gradients zero_gradients() const {
    Gradients to;
    to.q = at::zeros_like(q_);
    to.k = at::zeros_like(k_, floats());
    to.v = at::zeros_like(v_, floats());
    const auto of_heads = [&](const at::Tensor& heads) {
      return heads.defined() ? at::zeros_like(heads) : heads;
    };
    to.factor_heads = of_heads(factor_heads_);
    to.score_heads = of_heads(score_heads_);
    to.weight_heads = of_heads(weight_heads_);
    if (p_.mixes_heads()) to.partial = at::empty({kernels::kMixedHeadsPartial}, floats());
    if (table_.defined())
      to.table = at::zeros({q_.size(0), table_.size(0), table_.size(1)}, floats());
    if (gate_.defined()) to.gate = at::zeros_like(gate_);
    return to;
  }

  void add_gradients(const Block& block, const at::Tensor& out_grad, const Gradients& to) const {
    const auto made = scores_of(block);
    const auto block_grad = block.of_queries(out_grad), queries = block.of_queries(q_);
    add_product(block.of_keys(to.v), made.weights.flatten(0, 1).transpose(1, 2), block_grad);
    auto grad = matrix_of(block, heads_);
    auto products_grad = grad.flatten(0, 1);
    at::bmm_out(products_grad, block_grad, block.of_keys(v_).transpose(1, 2));
    at::Tensor factors_grad;
    if (made.factors.defined()) {
      factors_grad = grad * made.mixed_weights;
      grad = grad * made.factors;
    }
    if (weight_heads_.defined()) {
      add_gradient_of_heads(to.weight_heads, made.normalised, grad, to.partial);
      grad = mixed_back(weight_heads_, grad, false);
    }
    auto softmax = softmax_of(block, made);
    softmax.weights_grad = grad.const_data_ptr();
    softmax.scores_grad = grad.mutable_data_ptr();
    launchers().score_softmax_backward(softmax, device());
    if (gate_.defined()) {
      auto gate_grad = of_block(to.gate, block);
      at::sum_out(gate_grad, grad, at::IntArrayRef{1}, true);
    }
    at::Tensor found_grad;
    if (table_.defined()) {
      found_grad = at::empty_like(made.found);
      auto positions = positions_of(block, made);
      positions.sums_grad = grad.const_data_ptr();
      positions.scores_grad = grad.mutable_data_ptr();
      positions.table_grad = found_grad.mutable_data_ptr();
      launchers().counted_positions_backward(positions, device());
      add_product(to.table, found_grad.transpose(1, 2), queries);
    }
    if (score_heads_.defined()) {
      add_gradient_of_heads(to.score_heads, made.products, grad, to.partial);
      grad = mixed_back(score_heads_, grad, true);
    }
    if (made.factors.defined()) {
      add_gradient_of_heads(to.factor_heads, made.products, factors_grad, to.partial);
      grad = grad + mixed_back(factor_heads_, factors_grad, false);
    }
    products_grad = grad.flatten(0, 1);
    auto q_grad = block.of_queries(to.q);
    at::baddbmm_out(q_grad, q_grad, products_grad, block.of_keys(k_), 0, p_.scale);
    if (table_.defined()) {
      const auto table = table_.expand({q_.size(0), table_.size(0), table_.size(1)});
      at::baddbmm_out(q_grad, q_grad, found_grad, table);
    }
    add_product(block.of_keys(to.k), products_grad.transpose(1, 2), queries, p_.scale);
  }

  /// The part of a matrix [b, 1, queries, keys].
  static at::Tensor of_block(const at::Tensor& t, const Block& block) {
    return t.narrow(2, block.begin, block.queries()).narrow(3, block.key_begin, block.keys());
  }
  /// Of t [b * h, n, d] what is the first head's, [b, n, d].
  at::Tensor of_first_head(const at::Tensor& t) const {
    return t.unflatten(0, {batch_, heads_}).select(1, 0);
  }

  kernels::SelectiveGate selective_gate() const {
    kernels::SelectiveGate params;
    params.rows = rows_of(whole(), 1);
    params.scores = gate_scores_.const_data_ptr();
    params.gate = gate_.mutable_data_ptr();
    return params;
  }

  void make_gate() {
    gate_scores_ = matrix_of(whole(), 1);
    gate_ = matrix_of(whole(), 1);
    auto products = gate_scores_.select(1, 0);
    at::baddbmm_out(products, products, of_first_head(q_), of_first_head(k_).transpose(1, 2), 0,
                    p_.scale);
    launchers().selective_gate_forward(selective_gate(), device());
  }

  /// The gate is subtracted from every head and comes from the first.
  void add_gradients_of_gate(const Gradients& to) const {
    const auto gate_grad = to.gate.neg(), scores_grad = at::empty_like(gate_scores_);
    auto params = selective_gate();
    params.gate_grad = gate_grad.const_data_ptr();
    params.scores_grad = scores_grad.mutable_data_ptr();
    launchers().selective_gate_backward(params, device());
    const auto products_grad = scores_grad.select(1, 0);
    auto q_grad = of_first_head(to.q);
    at::baddbmm_out(q_grad, q_grad, products_grad, of_first_head(k_), 1, p_.scale);
    add_product(of_first_head(to.k), products_grad.transpose(1, 2), of_first_head(q_), p_.scale);
  }

  const MatrixParameters& p_;
  int64_t batch_, heads_, queries_, keys_;
  at::Tensor q_, k_, v_, factor_heads_, score_heads_, weight_heads_, table_, mask_;
  at::Tensor gate_scores_, gate_;  ///< [b, 1, i, j]
};

class MatrixAttention : public torch::autograd::Function<MatrixAttention> {
 public:
  /// autograd takes no undefined tensors as arguments; those of p are the same.
  using Maybe = std::optional<at::Tensor>;

  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& v, const Maybe& /*factor_heads*/,
                            const Maybe& /*score_heads*/, const Maybe& /*weight_heads*/,
                            const Maybe& /*table*/, const MatrixParameters& p) {
    ctx->save_for_backward(
        {q, k, v, p.factor_heads, p.score_heads, p.weight_heads, p.table, p.mask});
    auto& data = ctx->saved_data;
    data["scale"] = p.scale;
    data["causal"] = p.causal;
    data["window"] = p.window;
    data["selective"] = p.selective;
    data["topk"] = p.topk;
    data["straight_through"] = p.straight_through;
    return Matrix(q, k, v, p).out();
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& output_grads) {
    const auto saved = ctx->get_saved_variables();
    auto& data = ctx->saved_data;
    MatrixParameters p;
    p.scale = data["scale"].toDouble();
    p.causal = data["causal"].toBool();
    p.window = data["window"].toOptional<int64_t>();
    p.selective = data["selective"].toBool();
    p.topk = data["topk"].toInt();
    p.straight_through = data["straight_through"].toBool();
    p.mask = saved.back();
    const variable_list inputs(saved.begin(), saved.end() - 1);
    const auto with_tensors = [&](const variable_list& of) {
      auto all = p;
      all.factor_heads = of[3];
      all.score_heads = of[4];
      all.weight_heads = of[5];
      all.table = of[6];
      return all;
    };
    variable_list gradients;
    if (at::GradMode::is_enabled()) {
      const auto reference = [&](const variable_list& of) {
        return attend_reference(of[0], of[1], of[2], program_of(with_tensors(of))).out;
      };
      gradients = differentiable_gradients(reference, inputs, output_grads[0]);
    } else {
      const auto all = with_tensors(inputs);
      gradients = Matrix(inputs[0], inputs[1], inputs[2], all).gradients(output_grads[0]);
    }
    gradients.emplace_back();
    return gradients;
  }
};

void add_reasons_of_shape(const AttendCall& call, const MatrixParameters& p, Reasons& reasons) {
  constexpr int64_t kMax = int64_t{1} << 30, kMaxEntries = 65535;
  const auto &q = call.q, &k = call.k;
  const auto heads = q.size(1);
  reasons.add_if(q.numel() == 0 || k.numel() == 0 || call.v.numel() == 0,
                 "there are no queries, keys or values");
  reasons.add_if(k.size(2) > kernels::kMaxScoreKeys || q.size(2) > kMax || q.size(0) > kMaxEntries,
                 "so many queries, keys or entries");
  reasons.add_if(p.mixes_heads() && heads > kernels::kMaxMixedHeads,
                 "so many heads that are mixed");
  reasons.add_if(p.table.defined() && p.table.size(0) > kernels::kMaxCountedPositions,
                 "so many positions of cope");
  // Heads that see nothing have weights of 0 here, which are mixed into those that see something.
  const bool has_masks_of_heads = p.mask.defined() && p.mask.dim() >= 3 && p.mask.size(-3) > 1;
  reasons.add_if(p.mixes_heads() && has_masks_of_heads,
                 "a mask for each head beside talking heads");
}

Reasons matrix_reasons(const AttendCall& call) {
  auto reasons = reasons_against_fused(call);
  const auto p = matrix_stages().read(call, reasons);
  add_reasons_against_cuda_halves(call, reasons);
  if (!call.q.is_cuda()) return reasons;
  reasons.add_if(!p.has_more_than_others(), "nothing that needs the matrix of scores");
  for (const auto* t : {&p.factor_heads, &p.score_heads, &p.weight_heads, &p.table, &p.mask})
    reasons.add_if(t->defined() && t->device() != call.q.device(), "a stage's tensor is elsewhere");
  if (reasons.empty()) add_reasons_of_shape(call, p, reasons);
  return reasons;
}

AttendResult run_matrix(const AttendCall& call) {
  const auto p = matrix_stages().read(call);
  const auto heads = call.q.size(1);
  const auto q = call.q, k = repeat_heads(call.k, heads), v = repeat_heads(call.v, heads);
  if (!records_gradient({q, k, v, p.factor_heads, p.score_heads, p.weight_heads, p.table}))
    return {Matrix(q, k, v, p).out(), {}};
  const auto maybe = [](const at::Tensor& t) {
    return t.defined() ? MatrixAttention::Maybe(t) : std::nullopt;
  };
  const auto out = MatrixAttention::apply(q, k, v, maybe(p.factor_heads), maybe(p.score_heads),
                                          maybe(p.weight_heads), maybe(p.table), p);
  return {out, {}};
}

}  // namespace

ListedEngine matrix_cuda_engine() {
  return {{"matrix_cuda", matrix_reasons, run_matrix},
          [](StageType stage) { return matrix_stages().contains(stage); }};
}

}  // namespace x_transformers
