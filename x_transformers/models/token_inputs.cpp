#include "x_transformers/models/token_inputs.h"

#include <ATen/ATen.h>

#include "x_transformers/core/error.h"

namespace x_transformers {

at::Tensor attn_z_loss(const LayersOutput& layers, double weight) {
  require(!layers.attention.empty(), "attention z-loss: the model has no attention");
  at::Tensor sum;
  for (const auto& attended : layers.attention) {
    const auto& scores = attended.maps.pre_softmax_attn;
    auto lse = scores.logsumexp(-1);
    // A row that sees nothing has no scores to keep small; Python's loss is infinite there.
    const auto lowest = scores.scalar_type() == at::kHalf ? -65504.0 : -3e38;
    lse = lse.masked_fill(lse < lowest / 2, 0);
    sum = sum.defined() ? sum + lse : lse;
  }
  return sum.square().sum(1).mean() * weight;
}

std::vector<at::Tensor> next_mems(const TransformerOutput& output, std::optional<int64_t> most) {
  return kept_hiddens(output.layers, output.mems, most);
}

at::Tensor logit_entropies(const at::Tensor& logits) {
  const auto prob = logits.softmax(-1);
  return -(prob * prob.clamp_min(1e-20).log()).sum(-1);
}

}  // namespace x_transformers
