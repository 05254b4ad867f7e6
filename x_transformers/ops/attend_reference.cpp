// Every score option as one stage over a materialised score matrix [b h i j].
#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "x_transformers/ops/attend.h"
#include "x_transformers/ops/heads.h"
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

/// A 1x1 convolution over heads: out[o] = sum_h weight[o, h] * t[h].
at::Tensor mix_heads(const at::Tensor& weight, const at::Tensor& t) {
  const auto b = t.size(0), h = t.size(1);
  const auto mixed = at::bmm(weight.to(t.scalar_type()).expand({b, h, h}), t.flatten(2));
  return mixed.view(t.sizes());
}

at::Tensor similarities(const at::Tensor& q, const at::Tensor& k, const ScoreProgram& program) {
  if (!program.l2_distance) return at::matmul(q, k.transpose(-1, -2)) * program.scale;
  // cdist knows no type below float32.
  const auto type = q.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const auto squared = at::cdist(q.to(type), k.to(type)).square().to(q.scalar_type());
  return squared * -program.scale;
}

/// A token stops later queries from attending to what it has itself attended to (arXiv:2410.02703,
/// section 3.3).
at::Tensor selective_scores(const at::Tensor& scores) {
  const auto i = scores.size(-2), j = scores.size(-1);
  const auto device = scores.device();
  const auto columns = at::arange(j, at::TensorOptions().dtype(at::kLong).device(device));
  const auto rows =
      at::arange(i, at::TensorOptions().dtype(at::kLong).device(device)).unsqueeze(-1);
  // Not the first token of the sequence, not the token itself, and not what a cache put before the
  // sequence.
  const auto excluded = (columns == j - i) | (columns - (j - i) == rows) | (columns < j - i);
  auto gate = at::relu(scores.select(1, 0)).masked_fill(excluded, 0);
  gate = at::constant_pad_nd(gate, {0, 0, 1, -1}).cumsum(-2);
  return scores - gate.unsqueeze(1);
}

at::Tensor hard_weights(const at::Tensor& scores) {
  return straight_through(one_hot_of_best(scores), scores, softmax_of);
}

at::Tensor sparse_topk_weights(const at::Tensor& scores, const ScoreProgram& program) {
  const double masked = masked_score(scores.scalar_type());
  const auto kept = std::min(program.sparse_topk, scores.size(-1));
  const auto least = std::get<0>(scores.topk(kept, -1)).narrow(-1, kept - 1, 1);
  const auto is_top = (scores >= least) & (scores > masked);
  const auto sparse = scores.masked_fill(~is_top, masked).softmax(-1);
  if (!program.sparse_topk_straight_through) return sparse;
  return straight_through(sparse, scores, softmax_of);
}

at::Tensor gumbel_weights(const at::Tensor& scores, const ScoreProgram& program) {
  // Drawn in float32: in bfloat16 a draw may be 0, whose logarithm is infinite.
  auto draws = at::empty_like(scores, scores.options().dtype(at::kFloat)).exponential_();
  auto noisy = scores - draws.log_().to(scores.scalar_type());
  if (program.gumbel_temperature != 1) noisy = noisy / program.gumbel_temperature;
  if (!program.gumbel_hard) return softmax_of(noisy);
  return straight_through(one_hot_of_best(noisy), noisy, softmax_of);
}

at::Tensor normalise(const at::Tensor& scores, const ScoreProgram& program) {
  switch (program.normaliser) {
    case Normaliser::sigmoid:
      return scores.sigmoid();
    case Normaliser::hard:
      return hard_weights(scores);
    case Normaliser::sparse_topk:
      return sparse_topk_weights(scores, program);
    case Normaliser::gumbel_softmax:
      return gumbel_weights(scores, program);
    case Normaliser::custom:
      return program.custom(scores);
    case Normaliser::softmax:
      break;
  }
  const bool is_low = scores.scalar_type() == at::kHalf || scores.scalar_type() == at::kBFloat16;
  return is_low ? at::softmax(scores, -1, at::kFloat).to(scores.scalar_type()) : scores.softmax(-1);
}

}  // namespace

AttendResult attend_reference(const at::Tensor& q, const at::Tensor& k_given,
                              const at::Tensor& v_given, const ScoreProgram& program,
                              bool keep_maps) {
  const auto heads = q.size(1), i = q.size(2), j = k_given.size(2);
  const auto k = repeat_heads(k_given, heads), v = repeat_heads(v_given, heads);
  AttendResult result;

  auto scores = similarities(q, k, program);
  if (program.prev_attn.defined()) scores = scores + program.prev_attn;
  if (keep_maps) result.maps.qk_similarities = scores;

  at::Tensor weight_scale;
  if (program.pre_scale_post_talking_heads.defined()) {
    weight_scale = mix_heads(program.pre_scale_post_talking_heads, scores);
  }
  if (program.pre_talking_heads.defined())
    scores = scores + mix_heads(program.pre_talking_heads, scores);
  if (program.bias.defined()) scores = scores + program.bias.to(scores.scalar_type());
  if (program.softclamp) scores = (scores / *program.softclamp).tanh() * *program.softclamp;

  at::Tensor sign;
  if (program.cog_signed) {
    sign = scores.sign();
    scores = scores.abs();
  }

  auto visible = program.mask;
  if (program.causal && i > 1) visible = mask_and(visible, causal_mask(i, j, q.device()));
  if (visible.defined()) scores = scores.masked_fill(~visible, masked_score(scores.scalar_type()));

  if (program.cope) scores = scores + program.cope(q, scores);
  if (program.selective) scores = selective_scores(scores);

  if (program.head_sink.defined()) {
    auto sink = program.head_sink.view({1, heads, 1, 1}).expand({scores.size(0), heads, i, 1});
    if (program.cog_signed) {
      sign = at::cat({sink.sign(), sign}, -1);
      sink = sink.abs();
    }
    scores = at::cat({sink, scores}, -1);
  }
  if (keep_maps) result.maps.pre_softmax_attn = scores;

  auto weights = normalise(scores, program);
  if (program.cog_signed) weights = weights * sign;
  if (keep_maps) result.maps.post_softmax_attn = weights;

  if (program.head_sink.defined()) weights = weights.narrow(-1, 1, j);
  if (program.dropout > 0) weights = at::dropout(weights, program.dropout, true);
  if (program.post_talking_heads.defined())
    weights = mix_heads(program.post_talking_heads, weights);
  if (weight_scale.defined()) weights = weights * weight_scale;

  result.out = at::matmul(weights, v);
  // With no other mask, causal rows are without keys only where there are fewer keys than queries.
  const bool may_see_nothing = program.mask.defined() || (visible.defined() && i > j);
  if (may_see_nothing) result.out = result.out.masked_fill(~visible.any(-1, true), 0);
  return result;
}

}  // namespace x_transformers
