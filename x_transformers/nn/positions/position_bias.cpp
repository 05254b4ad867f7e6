#include "x_transformers/nn/positions/position_bias.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <tuple>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/nn/linear.h"
#include "x_transformers/nn/norms.h"
#include "x_transformers/ops/mask.h"

namespace x_transformers {

namespace {

/// Query position minus key position: [i, j], [b, i, j] or [b, heads, i, j].
at::Tensor distances(const PositionPairs& positions) {
  return positions.queries.unsqueeze(-1) - positions.keys.unsqueeze(-2);
}

/// Query position minus key position, for all distances that a table of `span` holds: span - 1 ..
/// -(span - 1), as tables are of key minus query position (stages::DistanceBias).
at::Tensor all_distances(int64_t span, const at::TensorOptions& options) {
  return at::arange(span - 1, -span, -1, options);
}

/// A table [heads, 2 span - 1] -> [heads, i, j] or [b, heads, i, j].
at::Tensor spread(const at::Tensor& table, const PositionPairs& positions) {
  const auto places = (positions.span - 1) - distances(positions);
  const auto pairs = table.index_select(1, places.flatten()).unflatten(1, places.sizes());
  return pairs.dim() == 4 ? pairs.transpose(0, 1) : pairs;
}

}  // namespace

RelativePositionBias::RelativePositionBias(const RelativePositionBiasOptions& o)
    : scale_(o.scale),
      causal_(o.causal),
      num_buckets_(o.num_buckets),
      max_distance_(o.max_distance) {
  require_size(o.heads, "heads");
  // Half of the buckets hold one distance each, of each direction.
  require_at_least(o.num_buckets, o.causal ? 2 : 4, "num_buckets");
  require_at_most(o.num_buckets, kMaxSize, "num_buckets");
  const auto exact = o.num_buckets / (o.causal ? 2 : 4);
  expect(o.max_distance > exact, at("max_distance"), o.max_distance,
         "more than {}, the distances that have a bucket each of {} = {}", exact,
         option("num_buckets"), o.num_buckets);
  relative_attention_bias_ =
      register_module("relative_attention_bias", torch::nn::Embedding(o.num_buckets, o.heads));
}

at::Tensor RelativePositionBias::buckets(const at::Tensor& query_minus_key) const {
  auto distance = query_minus_key;
  auto count = num_buckets_;
  at::Tensor offset = at::zeros_like(distance);
  if (causal_) {
    distance = distance.clamp_min(0);
  } else {
    count /= 2;
    offset = (distance < 0).to(at::kLong) * count;
    distance = distance.abs();
  }
  const auto max_exact = count / 2;
  const double log_range =
      std::log(static_cast<double>(max_distance_) / static_cast<double>(max_exact));
  const auto coarse =
      (at::log(distance.to(at::kFloat) / max_exact) / log_range * (count - max_exact))
          .to(at::kLong);
  const auto large = (coarse + max_exact).clamp_max(count - 1);
  return offset + at::where(distance < max_exact, distance, large);
}

BucketRanges RelativePositionBias::ranges(int64_t span) const {
  // Kept, as the host would make them for each call while the device waits.
  using Key = std::tuple<bool, int64_t, int64_t, int64_t>;
  static std::mutex mutex;
  static std::map<Key, BucketRanges> all;
  const std::lock_guard lock(mutex);
  const auto [place, is_new] = all.try_emplace({causal_, num_buckets_, max_distance_, span});
  if (is_new) {
    const auto distances = all_distances(span, at::TensorOptions(at::kLong));
    place->second = make_bucket_ranges(buckets(distances), num_buckets_);
  }
  return place->second;
}

at::Tensor RelativePositionBias::table(int64_t span) const {
  const auto& weight = relative_attention_bias_->weight;
  if (has_bucket_table(weight)) return bucket_table(weight, ranges(span), scale_);
  const auto distances = all_distances(span, weight.options().dtype(at::kLong));
  return (at::embedding(weight, buckets(distances)) * scale_).t();
}

at::Tensor RelativePositionBias::forward(const PositionPairs& positions) {
  return spread(table(positions.span), positions);
}

PositionStage RelativePositionBias::stage(int64_t span) {
  return stages::DistanceBias{.table = table(span)};
}

DynamicPositionBias::DynamicPositionBias(const DynamicPositionBiasOptions& o)
    : log_distance_(o.log_distance) {
  require_size(o.dim, "dim");
  require_size(o.heads, "heads");
  require_modules(o.depth, "depth");
  const auto dim = o.dim, depth = o.depth;
  auto mlp = register_module("mlp", make_scope());
  for (int64_t index = 0; index < depth; ++index) {
    auto scope = mlp->register_module(std::to_string(index), make_scope());
    Layer layer;
    layer.linear = scope->register_module("0", Linear(index == 0 ? 1 : dim, dim));
    // Python's first norm is the library's own, the later ones are torch's.
    if (o.norm && index == 0)
      layer.norm = scope->register_module("1", std::make_shared<LayerNorm>(dim));
    if (o.norm && index > 0) {
      layer.norm = scope->register_module("1", make_scope());
      layer.norm_weight = layer.norm->register_parameter("weight", at::ones({dim}));
      layer.norm_bias = layer.norm->register_parameter("bias", at::zeros({dim}));
    }
    layers_.push_back(layer);
  }
  to_heads_ = mlp->register_module(std::to_string(depth), Linear(dim, o.heads));
}

at::Tensor DynamicPositionBias::table(int64_t span) {
  auto h = all_distances(span, to_heads_->weight.options()).unsqueeze(-1);
  if (log_distance_) h = h.sign() * (h.abs() + 1).log();
  for (auto& layer : layers_) {
    h = layer.linear->forward(h);
    if (layer.norm_weight.defined()) {
      h = at::layer_norm(h, {h.size(-1)}, layer.norm_weight, layer.norm_bias);
    } else if (layer.norm) {
      h = std::static_pointer_cast<LayerNorm>(layer.norm)->forward(h);
    }
    h = at::silu(h);
  }
  return to_heads_->forward(h).t();
}

at::Tensor DynamicPositionBias::forward(const PositionPairs& positions) {
  return spread(table(positions.span), positions);
}

PositionStage DynamicPositionBias::stage(int64_t span) {
  return stages::DistanceBias{.table = table(span)};
}

AlibiPositionalBias::AlibiPositionalBias(const AlibiPositionalBiasOptions& o) {
  require_size(o.heads, "heads");
  require_size(o.total_heads, "total_heads");
  const auto total_heads = o.total_heads.value_or(o.heads);
  const auto chosen = o.slopes.value_or(default_slopes(o.heads));
  expect(static_cast<int64_t>(chosen.size()) <= total_heads,
         at(OptionPath("rel_pos_kwargs") / "slopes"), chosen.size(), "at most {} = {} of them",
         option("heads"), total_heads);
  auto values = at::zeros({total_heads, 1, 1});
  for (size_t head = 0; head < chosen.size(); ++head)
    values[static_cast<int64_t>(head)] = chosen[head];
  slopes_ = std::move(values);
  heads_ = static_cast<int64_t>(chosen.size());
}

std::vector<double> AlibiPositionalBias::default_slopes(int64_t heads) {
  const auto power_of_two = [](int64_t n) {
    const double start = std::pow(2.0, -std::pow(2.0, -(std::log2(static_cast<double>(n)) - 3)));
    std::vector<double> slopes;
    for (int64_t head = 0; head < n; ++head)
      slopes.push_back(start * std::pow(start, static_cast<double>(head)));
    return slopes;
  };
  int64_t closest = 1;
  while (closest * 2 <= heads) closest *= 2;
  auto slopes = power_of_two(closest);
  const auto finer = power_of_two(2 * closest);
  for (size_t head = 0; static_cast<int64_t>(slopes.size()) < heads; head += 2)
    slopes.push_back(finer[head]);
  return slopes;
}

at::Tensor AlibiPositionalBias::forward(const PositionPairs& positions) {
  const auto dims = std::max(positions.queries.dim(), positions.keys.dim());
  require(dims <= 2 || positions.queries.dim() == positions.keys.dim(), at("pos"),
          "expected positions of each head for queries and keys, or for neither");
  const auto distance = distances(positions).abs().to(at::kFloat);
  if (dims <= 2) return distance.unsqueeze(-3) * -slopes_;
  const auto given = distance.size(-3), all = slopes_.size(0);
  expect(given == 1 || given == heads_ || given == all, at("pos"), given,
         "positions of one head, or of {} (those that ALiBi biases)", heads_);
  if (given != heads_) return distance * -slopes_;
  return at::constant_pad_nd(distance * -slopes_.narrow(0, 0, heads_),
                             {0, 0, 0, 0, 0, all - heads_}, 0);
}

void AlibiPositionalBias::to(torch::Device device, torch::Dtype dtype, bool non_blocking) {
  PositionBias::to(device, dtype, non_blocking);
  slopes_ = slopes_.to(device);
}

void AlibiPositionalBias::to(torch::Device device, bool non_blocking) {
  PositionBias::to(device, non_blocking);
  slopes_ = slopes_.to(device);
}

DataDependentAlibi::DataDependentAlibi(const DataDependentAlibiModuleOptions& o)
    : causal_(o.causal), post_log_scale_(o.post_log_scale) {
  require_size(o.dim, "dim");
  require_size(o.heads, "heads");
  auto scope = register_module("to_forget_gates", make_scope());
  linear_ = scope->register_module("0", Linear(o.dim, o.heads * (o.causal ? 1 : 2)));
  torch::NoGradGuard no_grad;
  linear_->bias.fill_(o.bias_init);
}

/// Sums of the logarithms of the gates, [b, heads of all directions, n].
at::Tensor DataDependentAlibi::gates(const at::Tensor& x) {
  const auto gates = at::log_sigmoid(linear_->forward(x).transpose(1, 2)) * post_log_scale_;
  return gates.cumsum(-1);
}

std::optional<stages::TokenBias> DataDependentAlibi::terms(const at::Tensor& x,
                                                           TokenBuffer* earlier) {
  if (!causal_ && !earlier) return std::nullopt;
  auto sums = gates(x);
  if (!earlier) return stages::TokenBias{sums, sums.neg()};
  if (const auto last = earlier->last(); last.defined()) sums = sums + last.squeeze(-1);
  return stages::TokenBias{sums, earlier->append(sums.unsqueeze(-1)).squeeze(-1).neg()};
}

at::Tensor DataDependentAlibi::forward(const at::Tensor& x, TokenBuffer* earlier) {
  if (const auto sums = terms(x, earlier)) return sums->bias(x.size(1), sums->keys.size(-1));
  const auto pairs = [](const at::Tensor& t) { return t.unsqueeze(-1) - t.unsqueeze(-2); };
  const auto directions = gates(x).chunk(2, 1);
  return pairs(directions[0]).tril() + pairs(directions[1]).neg().triu();
}

PerRowDataDependentAlibi::PerRowDataDependentAlibi(const PerRowDataDependentAlibiOptions& o)
    : heads_(o.heads), dim_head_(o.dim_head), post_log_scale_(o.post_log_scale) {
  require_size(o.dim, "dim");
  require_size(o.heads, "heads");
  require_size(o.dim_head, "dim_head");
  require(o.causal, at("causal"), "must be true, gates for each pair look back only");
  auto scope = register_module("to_forget_gates", make_scope());
  linear_ = scope->register_module("0", linear_no_bias(o.dim, o.heads * o.dim_head * 2));
}

at::Tensor PerRowDataDependentAlibi::forward(const at::Tensor& x, TokenBuffer* earlier) {
  const auto qk =
      linear_->forward(x).unflatten(-1, {2, heads_, dim_head_}).permute({2, 0, 3, 1, 4});
  const auto keys = earlier ? earlier->append(qk[1]) : qk[1];
  const auto scores =
      at::matmul(qk[0], keys.transpose(-1, -2)) / std::sqrt(static_cast<double>(dim_head_));
  const auto gates = at::log_sigmoid(scores) * post_log_scale_;
  const auto places = at::arange(keys.size(-2), x.options().dtype(at::kLong));
  const auto own = earlier ? earlier->places(x.size(1)) : places;
  const auto is_before = places < own.unsqueeze(-1);
  return gates.masked_fill(~is_before, 0).flip({-1}).cumsum(-1).flip({-1});
}

CoPE::CoPE(const CoPEOptions& o)
    : max_pos_(o.max_pos), soft_onehot_(o.soft_onehot), soft_onehot_temp_(o.soft_onehot_temp) {
  require_size(o.dim, "dim");
  require_size(o.heads, "heads");
  require_size(o.max_pos, "max_pos");
  const auto heads = o.heads;
  pos_emb_ = register_parameter("pos_emb", at::zeros({o.max_pos, o.dim}));
  if (o.talking_heads) {
    auto scope = register_module("talking_heads", make_scope());
    Linear start(torch::nn::LinearOptions(heads, heads).bias(false));
    talking_heads_ = scope->register_parameter(
        "weight", start->weight.detach().clone().view({heads, heads, 1, 1}));
  }
  if (o.soft_onehot) positions_ = register_buffer("positions", at::arange(o.max_pos));
}

at::Tensor CoPE::forward(const at::Tensor& query, const at::Tensor& scores_given) {
  auto scores = scores_given;
  if (talking_heads_.defined()) {
    const auto i = scores.size(-2), j = scores.size(-1);
    const auto later = at::ones({i, j}, scores.options().dtype(at::kBool)).triu(j - i + 1);
    scores = at::einsum("o h, b h i j -> b o i j", {talking_heads_.flatten(1), scores});
    scores = scores.masked_fill(later, masked_score(scores.scalar_type()));
  }
  if (!soft_onehot_) return counted_positions(query, scores, pos_emb_);
  const auto position = scores.sigmoid().flip({-1}).cumsum(-1).flip({-1}).clamp_max(max_pos_ - 1);
  const auto logits = at::matmul(query, pos_emb_.t());  // (b h i p)
  const auto distance = (position.unsqueeze(-1) - positions_).abs();
  const auto weights = at::softmax(-distance / soft_onehot_temp_, -1);
  return at::einsum("b h i j p, b h i p -> b h i j", {weights, logits});
}

stages::Cope stage_of(std::shared_ptr<CoPE> cope) {
  if (cope->table().defined()) return {.table = cope->table()};
  return {.added = [cope = std::move(cope)](const at::Tensor& q, const at::Tensor& scores) {
    return cope->forward(q, scores);
  }};
}

}  // namespace x_transformers
