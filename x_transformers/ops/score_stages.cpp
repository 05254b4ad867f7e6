// Every stage over a materialised score matrix [b h i j].
#include "x_transformers/ops/score_stages.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <string>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/ops/mask.h"

namespace x_transformers {
namespace {

/// The values of `hard` with the gradient of `soft`, which is made only where one is recorded.
template <class Soft>
at::Tensor straight_through(const at::Tensor& hard, const at::Tensor& scores, Soft soft) {
  struct Function : torch::autograd::Function<Function> {
    static at::Tensor forward(torch::autograd::AutogradContext*, const at::Tensor& hard,
                              const at::Tensor&) {
      return hard.view_as(hard);
    }
    static torch::autograd::variable_list backward(torch::autograd::AutogradContext*,
                                                   const torch::autograd::variable_list& grads) {
      return {at::Tensor(), grads[0]};
    }
  };
  const bool is_recorded = at::GradMode::is_enabled() && scores.requires_grad();
  return is_recorded ? Function::apply(hard.detach(), soft(scores)) : hard;
}

at::Tensor softmax_of(const at::Tensor& scores) { return scores.softmax(-1); }

at::Tensor one_hot_of_best(const at::Tensor& scores) {
  return at::zeros_like(scores).scatter_(-1, scores.argmax(-1, true), 1.0);
}

at::Tensor hard_weights(const at::Tensor& scores) {
  return straight_through(one_hot_of_best(scores), scores, softmax_of);
}

/// A 1x1 convolution over heads: out[o] = sum_h weight[o, h] * t[h].
at::Tensor mix_heads(const at::Tensor& weight, const at::Tensor& t) {
  const auto b = t.size(0), h = t.size(1);
  const auto mixed = at::bmm(weight.to(t.scalar_type()).expand({b, h, h}), t.flatten(2));
  return mixed.view(t.sizes());
}

/// Whether a gradient is recorded of what is made of t.
bool records(const at::Tensor& t) { return at::GradMode::is_enabled() && t.requires_grad(); }

}  // namespace

void ScoreMatrix::allow(const at::Tensor& mask) {
  if (!visible.defined()) {
    later(ScorePlace::hide, [](ScoreMatrix& m) {
      m.scores = m.scores.masked_fill(~m.visible, masked_score(m.scores.scalar_type()));
    });
  }
  visible = mask_and(visible, mask);
}

void ScoreMatrix::bound_masked() {
  if (visible.defined()) scores = scores.clamp_min(masked_score(scores.scalar_type()));
}

void ScoreMatrix::later(ScorePlace place, Step step) { put_off_.emplace(place, std::move(step)); }

void ScoreMatrix::run_until(ScorePlace place) {
  while (!put_off_.empty() && put_off_.begin()->first < place) {
    const auto next = put_off_.extract(put_off_.begin());
    next.mapped()(*this);
  }
}

namespace stages {

void DotProduct::apply(ScoreMatrix& m) const {
  m.scores = at::matmul(m.q, m.k.transpose(-1, -2)) * scale;
}

void L2Distance::apply(ScoreMatrix& m) const {
  // cdist knows no type below float32.
  const auto type = m.q.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const auto squared = at::cdist(m.q.to(type), m.k.to(type)).square().to(m.q.scalar_type());
  m.scores = squared * -scale;
}

void PrevAttn::apply(ScoreMatrix& m) const { m.scores = m.scores + prev_attn; }

void PreScalePostTalkingHeads::apply(ScoreMatrix& m) const {
  m.later(ScorePlace::scale_weights, [scale = mix_heads(heads, m.scores)](ScoreMatrix& weights) {
    weights.scores = weights.scores * scale;
  });
}

void PreTalkingHeads::apply(ScoreMatrix& m) const {
  m.scores = m.scores + mix_heads(heads, m.scores);
}

at::Tensor Alibi::fixed() const { return slopes.detach().to(at::kFloat).contiguous(); }

at::Tensor Alibi::bias(int64_t i, int64_t j) const {
  const auto options = slopes.options().dtype(at::kLong);
  const auto keys = at::arange(front, j, options);
  const auto queries = at::arange(j - i, j, options).unsqueeze(-1);
  const auto of_keys = (keys - queries).abs().to(at::kFloat) * -fixed().view({-1, 1, 1});
  return front > 0 ? at::constant_pad_nd(of_keys, {front, 0}, 0) : of_keys;
}

void Alibi::apply(ScoreMatrix& m) const {
  m.scores = m.scores + bias(m.q.size(2), m.k.size(2)).to(m.scores.scalar_type());
}

at::Tensor DistanceBias::bias(int64_t i, int64_t j) const {
  auto& made = spread->bias;
  const bool is_made = made.defined() && spread->front == front && made.size(1) == i &&
                       made.size(2) == j && made.requires_grad() == records(table);
  if (is_made) return made;
  const auto options = table.options().dtype(at::kLong);
  const auto keys = at::arange(front, j, options);
  const auto queries = at::arange(j - i, j, options).unsqueeze(-1);
  const auto places = keys - queries + table.size(1) / 2;
  made = table.index_select(1, places.flatten()).unflatten(1, places.sizes());
  if (front > 0) made = at::constant_pad_nd(made, {front, 0}, 0);
  spread->front = front;
  return made;
}

void DistanceBias::apply(ScoreMatrix& m) const {
  m.scores = m.scores + bias(m.q.size(2), m.k.size(2)).to(m.scores.scalar_type());
}

at::Tensor TokenBias::bias(int64_t, int64_t j) const {
  const auto of_keys = queries.unsqueeze(-1) + keys.unsqueeze(-2);
  const auto front = j - keys.size(-1);
  return front > 0 ? at::constant_pad_nd(of_keys, {front, 0}, 0) : of_keys;
}

void TokenBias::apply(ScoreMatrix& m) const {
  m.scores = m.scores + bias(m.q.size(2), m.k.size(2)).to(m.scores.scalar_type());
}

void Bias::apply(ScoreMatrix& m) const { m.scores = m.scores + bias.to(m.scores.scalar_type()); }

void Softclamp::apply(ScoreMatrix& m) const { m.scores = (m.scores / bound).tanh() * bound; }

void CogSigned::apply(ScoreMatrix& m) const {
  m.signs = m.scores.sign();
  m.scores = m.scores.abs();
  m.later(ScorePlace::give_signs, [](ScoreMatrix& w) { w.scores = w.scores * w.signs; });
}

void Mask::apply(ScoreMatrix& m) const {
  if (!allowed.defined()) return;
  m.allow(allowed);
  m.may_see_nothing = true;
}

void Causal::apply(ScoreMatrix& m) const {
  const auto i = m.q.size(2), j = m.k.size(2);
  if (i <= 1) return;
  m.allow(causal_mask(i, j, m.q.device()));
  // Rows are without keys only where there are fewer keys than queries.
  if (i > j) m.may_see_nothing = true;
}

void Window::apply(ScoreMatrix& m) const {
  m.allow(window_mask(m.q.size(2), m.k.size(2), past, m.q.device()));
}

void Cope::apply(ScoreMatrix& m) const {
  m.scores =
      m.scores + (table.defined() ? counted_positions(m.q, m.scores, table) : added(m.q, m.scores));
  if (m.scores.scalar_type() == at::kHalf) m.bound_masked();
}

void Selective::apply(ScoreMatrix& m) const {
  const auto i = m.scores.size(-2), j = m.scores.size(-1);
  const auto options = at::TensorOptions().dtype(at::kLong).device(m.scores.device());
  const auto columns = at::arange(j, options), rows = at::arange(i, options).unsqueeze(-1);
  // Not the first token of the sequence, not the token itself, and not what a cache put before the
  // sequence.
  const auto excluded = (columns == j - i) | (columns - (j - i) == rows) | (columns < j - i);
  auto gate = at::relu(m.scores.select(1, 0)).masked_fill(excluded, 0);
  gate = at::constant_pad_nd(gate, {0, 0, 1, -1}).cumsum(-2);
  m.scores = m.scores - gate.unsqueeze(1);
  if (m.scores.scalar_type() == at::kHalf) m.bound_masked();
}

void HeadSink::apply(ScoreMatrix& m) const {
  const auto keys = m.scores.size(-1);
  auto sink = this->scores.view({1, -1, 1, 1})
                  .expand({m.scores.size(0), m.scores.size(1), m.scores.size(2), 1});
  if (m.signs.defined()) {
    m.signs = at::cat({sink.sign(), m.signs}, -1);
    sink = sink.abs();
  }
  m.scores = at::cat({sink, m.scores}, -1);
  m.later(ScorePlace::drop_sink,
          [keys](ScoreMatrix& w) { w.scores = w.scores.narrow(-1, 1, keys); });
}

void Softmax::apply(ScoreMatrix& m) const {
  const auto type = m.scores.scalar_type();
  const bool is_low = type == at::kHalf || type == at::kBFloat16;
  m.scores = is_low ? at::softmax(m.scores, -1, at::kFloat).to(type) : m.scores.softmax(-1);
}

void Sigmoid::apply(ScoreMatrix& m) const { m.scores = m.scores.sigmoid(); }

void Hard::apply(ScoreMatrix& m) const { m.scores = hard_weights(m.scores); }

void SparseTopk::apply(ScoreMatrix& m) const {
  const auto& scores = m.scores;
  const double masked = masked_score(scores.scalar_type());
  const auto kept = std::min(count, scores.size(-1));
  const auto least = std::get<0>(scores.topk(kept, -1)).narrow(-1, kept - 1, 1);
  const auto is_top = (scores >= least) & (scores > masked);
  const auto sparse = scores.masked_fill(~is_top, masked).softmax(-1);
  m.scores =
      straight_through ? x_transformers::straight_through(sparse, scores, softmax_of) : sparse;
}

void GumbelSoftmax::apply(ScoreMatrix& m) const {
  if (noise.defined()) {
    m.scores = m.scores + noise.to(m.scores.scalar_type());
  } else {
    // Drawn in float32: in bfloat16 a draw may be 0, whose logarithm is infinite.
    auto draws = at::empty_like(m.scores, m.scores.options().dtype(at::kFloat)).exponential_();
    m.scores = m.scores - draws.log_().to(m.scores.scalar_type());
  }
  if (temperature != 1) m.scores = m.scores / temperature;
  if (temperature < 1 || m.scores.scalar_type() == at::kHalf) m.bound_masked();
  m.scores = hard ? hard_weights(m.scores) : softmax_of(m.scores);
}

void CustomNormaliser::apply(ScoreMatrix& m) const {
  auto weights = function(m.scores);
  const auto sizes = m.scores.sizes();
  bool fits = weights.defined() && weights.is_floating_point() && weights.dim() == 4;
  for (int64_t i = 0; fits && i < 4; ++i)
    fits = weights.size(i) == sizes[i] || weights.size(i) == 1;
  if (!fits) {
    const auto given = weights.defined()
                           ? fmt::format("{} [{}]", at::toString(weights.scalar_type()),
                                         fmt::join(weights.sizes(), ", "))
                           : std::string("nothing");
    expect(false, at(OptionPath(kName)), given, "a weight for each score, floats [{}]",
           fmt::format("{}", fmt::join(sizes, ", ")));
  }
  m.scores = std::move(weights);
}

void Dropout::apply(ScoreMatrix& m) const {
  if (factors.defined()) {
    m.scores = m.scores * factors.to(m.scores.scalar_type());
  } else if (probability > 0) {
    m.scores = at::dropout(m.scores, probability, true);
  }
}

void PostTalkingHeads::apply(ScoreMatrix& m) const { m.scores = mix_heads(heads, m.scores); }

}  // namespace stages

at::Tensor counted_positions(const at::Tensor& q, const at::Tensor& scores,
                             const at::Tensor& table) {
  const auto last = table.size(0) - 1;
  const auto position = scores.sigmoid().flip({-1}).cumsum(-1).flip({-1}).clamp_max(last);
  const auto logits = at::matmul(q, table.t());  // (b h i p)
  const auto above = position.ceil().to(at::kLong), below = position.floor().to(at::kLong);
  const auto weight = position - below;
  return logits.gather(-1, above) * weight + logits.gather(-1, below) * (1 - weight);
}

PositionStage with_own_matrix(PositionStage stage) {
  if (auto* distances = std::get_if<stages::DistanceBias>(&stage))
    distances->spread = std::make_shared<stages::DistanceBias::Spread>(*distances->spread);
  return stage;
}

void add_front(PositionStage& stage, int64_t count) {
  std::visit(
      [&](auto& s) {
        if constexpr (requires { s.front; }) s.front += count;
      },
      stage);
}

at::Tensor bias_of(const PositionStage& stage, int64_t i, int64_t j) {
  return std::visit(
      [&](const auto& s) -> at::Tensor {
        if constexpr (requires { s.bias(i, j); }) return s.bias(i, j);
        return {};
      },
      stage);
}

}  // namespace x_transformers
