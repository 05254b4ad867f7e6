#include "x_transformers/ops/distance_features.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <vector>

#include "x_transformers/ops/heads.h"

namespace x_transformers {
namespace {

/// Terms that a square is a sum of; one of bfloat16 has eight binary digits.
int64_t term_count(const at::Tensor& t) { return t.scalar_type() == at::kBFloat16 ? 3 : 1; }

/// Minus half the squared length of each row, [.., 1] each, as terms of a sum.
std::vector<at::Tensor> half_squares(const at::Tensor& t) {
  const auto count = term_count(t);
  if (count == 1) return {t.square().sum(-1, true) * -0.5};
  std::vector<at::Tensor> terms;
  auto rest = t.to(at::kFloat).square().sum(-1, true) * -0.5;
  for (int64_t i = 0; i < count; ++i) {
    terms.push_back(rest.to(t.scalar_type()));
    rest = rest - terms.back().to(at::kFloat);
  }
  return terms;
}

at::Tensor join(const std::vector<at::Tensor>& parts, int64_t features) {
  const auto joined = at::cat(parts, -1);
  return at::constant_pad_nd(joined, {0, features - joined.size(-1)}, 0);
}

}  // namespace

int64_t distance_feature_count(const at::Tensor& q) { return 2 * term_count(q); }

DistanceFeatures distance_features(const at::Tensor& q, const at::Tensor& k, int64_t minimum,
                                   int64_t multiple) {
  const auto heads = q.size(1), kv_heads = k.size(1);
  // Subtracting one vector from both leaves their distance as it is. It is the mean query of a
  // key's head: a large offset that all share would cost the difference its digits.
  const auto grouped = q.detach().unflatten(1, {heads / kv_heads, kv_heads});
  const auto shared = grouped.mean(at::IntArrayRef{1, 3}).unsqueeze(2);
  const auto near_q = q - repeat_heads(shared, heads), near_k = k - shared;
  auto q_squares = half_squares(near_q), k_squares = half_squares(near_k);
  const auto ones = [terms = term_count(q)](const at::Tensor& t) {
    return at::ones_like(t.narrow(-1, 0, 1)).expand({-1, -1, -1, terms});
  };
  std::vector<at::Tensor> q_parts = {near_q}, k_parts = {near_k, ones(near_k)};
  q_parts.insert(q_parts.end(), q_squares.begin(), q_squares.end());
  q_parts.push_back(ones(near_q));
  k_parts.insert(k_parts.end(), k_squares.begin(), k_squares.end());
  const auto wanted = std::max(q.size(-1) + distance_feature_count(q), minimum);
  const auto features = (wanted + multiple - 1) / multiple * multiple;
  return {join(q_parts, features), join(k_parts, features)};
}

}  // namespace x_transformers
