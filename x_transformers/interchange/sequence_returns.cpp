#include "x_transformers/interchange/sequence_returns.h"

#include "x_transformers/interchange/transformer_returns.h"

namespace x_transformers {
namespace {

/// Python has no maps with flash attention.
Value attention_maps(const LayersOutput& output, const AttentionLayersOptions& layers) {
  std::vector<at::Tensor> maps;
  for (const auto& attended : output.attention) {
    const bool is_flash = attended.is_cross ? layers.cross_attn->flash : layers.attn.flash;
    maps.push_back(is_flash ? at::Tensor() : attended.maps.post_softmax_attn);
  }
  return Value::list(maps);
}

Value pair(const Value& out, const Value& second) {
  return Value::list(std::vector<Value>{out, second});
}

}  // namespace

SequenceReturns take_sequence_returns(Arguments& arguments) {
  return {arguments.flag("return_embeddings"), arguments.flag("return_intermediates"),
          arguments.flag("return_mems"), arguments.flag("return_attn")};
}

void set_wants(SequenceInputs& inputs, const SequenceReturns& returns) {
  inputs.keep_hiddens = returns.intermediates || returns.mems;
  inputs.keep_maps = returns.attn;
}

Value sequence_intermediates(const SequenceOutput& output) {
  TransformerOutput of_stack;
  of_stack.layers = output.layers;
  auto value = intermediates_value(of_stack);
  value.add("memory_tokens", output.memory_tokens);
  return value;
}

Value nested_returns(const Value& out, const SequenceOutput& output, const SequenceReturns& returns,
                     const std::vector<at::Tensor>& mems, const AttentionLayersOptions& layers) {
  if (returns.intermediates) return pair(out, sequence_intermediates(output));
  if (returns.mems) return pair(out, Value::list(mems));
  return returns.attn ? pair(out, attention_maps(output.layers, layers)) : out;
}

}  // namespace x_transformers
