#include "x_transformers/interchange/sequence_returns.h"

#include "x_transformers/interchange/stack_returns.h"

namespace x_transformers {
namespace {

Value pair(const Value& out, const Value& second) {
  return Value::list(std::vector<Value>{out, second});
}

}  // namespace

SequenceReturns take_sequence_returns(Arguments& arguments) {
  return {.embeddings = arguments.flag("return_embeddings"),
          .intermediates = arguments.flag("return_intermediates"),
          .mems = arguments.flag("return_mems"),
          .attn = arguments.flag("return_attn")};
}

void set_wants(SequenceInputs& inputs, const SequenceReturns& returns) {
  inputs.keep_hiddens = returns.intermediates || returns.mems;
  inputs.keep_maps = returns.attn;
  inputs.keep_caches = returns.intermediates;
}

Value sequence_intermediates(const SequenceOutput& output) {
  auto value = stack_intermediates(output.layers);
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
