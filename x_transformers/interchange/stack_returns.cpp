#include "x_transformers/interchange/stack_returns.h"

#include <vector>

namespace x_transformers {

Value stack_intermediates(const LayersOutput& output) {
  Value value;
  value.add("hiddens", Value::list(output.hiddens));
  value.add("last_hidden", output.out);
  value.add("layer_hiddens", Value::list(output.layer_hiddens));
  if (!output.block_hiddens.empty()) value.add("block_hiddens", Value::list(output.block_hiddens));
  std::vector<Value> attentions;
  for (const auto& attended : output.attention) {
    const auto& kept = attended.kept;
    attentions.emplace_back();
    if (!kept.keys.defined()) continue;
    attentions.back().add("cached_kv",
                          Value::list(std::vector<at::Tensor>{kept.keys, kept.values}));
    attentions.back().add("hybrid_hidden", kept.hidden);
  }
  value.add("attn_intermediates", Value::list(std::move(attentions)));
  return value;
}

Value attention_maps(const LayersOutput& output, const AttentionLayersOptions& options) {
  std::vector<at::Tensor> maps;
  for (const auto& attended : output.attention) {
    const bool is_flash = attended.is_cross ? options.cross_attn->flash : options.attn.flash;
    maps.push_back(is_flash ? at::Tensor() : attended.maps.post_softmax_attn);
  }
  return Value::list(maps);
}

}  // namespace x_transformers
