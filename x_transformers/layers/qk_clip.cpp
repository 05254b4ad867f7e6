#include "x_transformers/layers/qk_clip.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <map>

#include "x_transformers/core/error.h"
#include "x_transformers/nn/qk_clip.h"

namespace x_transformers {

void attn_qk_clip_(const AttentionLayersImpl& layers, const LayersOutput& output, double tau) {
  const at::NoGradGuard no_grad;
  const auto attentions = layers.attentions();
  expect(attentions.size() == output.attention.size(), at("attn_qk_clip_"), output.attention.size(),
         "the scores of {} attentions", attentions.size());
  std::map<const ClippableAttention*, at::Tensor> maxes;
  for (size_t i = 0; i < attentions.size(); ++i) {
    const auto& scores = output.attention[i].maps.pre_softmax_attn;
    require(scores.defined(), at("attn_qk_clip_"), "a call keeps the scores with {}",
            option("keep_maps"));
    const auto largest = scores.amax({0, 2, 3});
    const auto* attention = dynamic_cast<const ClippableAttention*>(&attentions[i]->innermost());
    require(attention != nullptr, at("attn_qk_clip_"),
            "a layer attends without queries and keys to clip");
    auto& kept = maxes[attention];
    kept = kept.defined() ? at::maximum(kept, largest) : largest;
  }
  for (const auto& [attention, largest] : maxes) {
    for (const auto& [weight, scale] : attention->qk_clip_scales(largest, tau)) weight.mul_(scale);
  }
}

}  // namespace x_transformers
