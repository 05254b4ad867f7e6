// QK-clip: queries and keys scaled down where their scores have grown too large.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include "x_transformers/core/error.h"
#include "x_transformers/core/rules.h"
#include "x_transformers/nn/attention.h"

namespace x_transformers {

Text AttentionImpl::qk_clip_unsupported() const {
  if (!options_.qk_norm) return {};
  return text("{} leaves queries and keys no length that could be clipped", option("qk_norm"));
}

std::vector<ScaledRows> AttentionImpl::qk_clip_scales(const at::Tensor& score_maxes,
                                                      double tau) const {
  require_positive(tau, "tau");
  const auto reason = qk_clip_unsupported();
  require(reason.empty(), at("qk_clip_"), "{}", reason);
  const auto heads = options_.heads, groups = heads / kv_heads_;
  require(score_maxes.dim() == 1 && score_maxes.size(0) == heads, at("qk_clip_"),
          "expected the largest score of each of {} heads", heads);
  const auto maxes = score_maxes.to(at::kFloat);
  // Of both together; what is NaN, or not above tau, stays.
  const auto clip = at::where(maxes > tau, tau / maxes, at::ones({}, maxes.options()));
  auto keys = clip.sqrt(), queries = keys;
  if (groups > 1) {
    // Query head h reads key head h % kv_heads: the keys go with the head that is clipped most.
    keys = clip.view({groups, kv_heads_}).amin(0).sqrt();
    queries = clip / keys.repeat({groups});
  }
  const auto rows = [&](const at::Tensor& scale) {
    return scale.repeat_interleave(options_.dim_head).unsqueeze(-1);
  };
  std::vector<ScaledRows> scaled{{to_q_->weight, rows(queries)}};
  const auto own = kv_heads_ - options_.latent_rope_subheads.value_or(0);
  if (own > 0) scaled.push_back({to_k_->weight, rows(keys.narrow(0, 0, own))});
  if (own < kv_heads_)
    scaled.push_back({to_rotateable_k_->weight, rows(keys.narrow(0, own, kv_heads_ - own))});
  return scaled;
}

void AttentionImpl::qk_clip_(const at::Tensor& pre_softmax_attn, double tau) {
  require(pre_softmax_attn.defined() && pre_softmax_attn.dim() == 4, at("qk_clip_"),
          "expected scores [batch, heads, queries, keys]; a call keeps them with {}",
          option("keep_maps"));
  const at::NoGradGuard no_grad;
  for (const auto& [weight, scale] : qk_clip_scales(pre_softmax_attn.amax({0, 2, 3}), tau))
    weight.mul_(scale);
}

}  // namespace x_transformers
