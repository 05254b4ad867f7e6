#include "x_transformers/models/token_inputs.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "x_transformers/core/error.h"
#include "x_transformers/ops/rows.h"

namespace x_transformers {

void TransformerCache::reorder(const at::Tensor& entries) {
  layers.reorder(entries);
  if (mask.defined() && mask.size(0) > 1) mask = mask.index_select(0, entries);
}

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
  std::vector<at::Tensor> mems;
  // As many as were given, as in Python: a layer that is run again may have had none of its own.
  const auto count = output.mems.empty()
                         ? output.layers.hiddens.size()
                         : std::min(output.mems.size(), output.layers.hiddens.size());
  for (size_t i = 0; i < count; ++i) {
    auto mem = output.layers.hiddens[i];
    if (!output.mems.empty()) mem = cat_rows(output.mems[i], mem, -2);
    const auto length = mem.size(-2);
    const auto kept = std::min(most.value_or(length), length);
    mems.push_back(mem.narrow(-2, length - kept, kept).detach());
  }
  return mems;
}

at::Tensor logit_entropies(const at::Tensor& logits) {
  const auto prob = logits.softmax(-1);
  return -(prob * prob.clamp_min(1e-20).log()).sum(-1);
}

}  // namespace x_transformers
