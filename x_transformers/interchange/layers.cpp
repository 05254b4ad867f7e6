// Stacks of layers and their parts in the interchange.
#include <ATen/ATen.h>

#include "x_transformers/interchange/registry.h"
#include "x_transformers/interchange/take_inputs.h"
#include "x_transformers/layers/attention_layers.h"
#include "x_transformers/layers/attention_pool.h"

namespace x_transformers {
namespace {

Value attended_list(const LayersOutput& output) {
  Value value;
  value.add("hiddens", Value::list(output.hiddens));
  value.add("last_hidden", output.out);
  value.add("layer_hiddens", Value::list(output.layer_hiddens));
  return value;
}

Value call_layers(AttentionLayers& layers, const std::string& method, Arguments& arguments) {
  require_forward(layers->options().type_name(), method);
  StackCall call(arguments, *layers);
  auto& inputs = call.inputs;
  inputs.keep_hiddens = arguments.flag("return_hiddens");
  const auto output = layers->forward(inputs);
  if (!inputs.keep_hiddens) return output.out;
  return Value::list(std::vector<Value>{output.out, attended_list(output)});
}

Value call_attention(Attention& attention, const std::string& method, Arguments& arguments) {
  require_forward("Attention", method);
  AttentionCall call(arguments, *attention);
  auto& inputs = call.inputs;
  const auto& cached = call.cached;
  const bool return_intermediates = arguments.flag("return_intermediates");
  inputs.keep_maps = return_intermediates && !attention->options().flash;
  inputs.keep_unrotated = return_intermediates;
  const auto output = attention->forward(inputs);
  if (!return_intermediates) return output.out;
  Value intermediates;
  intermediates.add("qk_similarities", output.maps.qk_similarities);
  intermediates.add("pre_softmax_attn", output.maps.pre_softmax_attn);
  intermediates.add("post_softmax_attn", output.maps.post_softmax_attn);
  intermediates.add("values", output.values);
  std::vector<at::Tensor> kept = {output.unrotated_kv.first, output.unrotated_kv.second};
  if (!cached.empty() && !attention->options().use_latent_kv) {
    for (size_t part = 0; part < cached.size(); ++part)
      kept[part] = at::cat({cached[part], kept[part]}, 2);
  }
  intermediates.add("cached_kv", Value::list(kept));
  intermediates.add("hybrid_hidden", output.hybrid_hidden);
  return Value::list(std::vector<Value>{output.out, intermediates});
}

}  // namespace

void register_layers(ModelTypes& types) {
  for (const auto& name : AttentionLayersOptions::type_names()) {
    register_type<AttentionLayers, AttentionLayersOptions>(
        types, name, [](const AttentionLayersOptions& options) { return AttentionLayers(options); },
        call_layers);
  }
  register_type<Attention, AttentionOptions>(
      types, "Attention", [](const AttentionOptions& options) { return Attention(options); },
      call_attention);
  register_type<FeedForward, FeedForwardOptions>(
      types, "FeedForward", [](const FeedForwardOptions& options) { return FeedForward(options); },
      [](FeedForward& feed_forward, const std::string& method, Arguments& arguments) -> Value {
        require_forward("FeedForward", method);
        return feed_forward->forward(arguments.required_tensor("x"),
                                     arguments.tensor("deep_embed"));
      });
  register_type<AttentionPool, AttentionPoolOptions>(
      types, "AttentionPool",
      [](const AttentionPoolOptions& options) { return AttentionPool(options); },
      [](AttentionPool& pool, const std::string& method, Arguments& arguments) -> Value {
        require_forward("AttentionPool", method);
        return pool->forward(arguments.required_tensor("context"), arguments.tensor("mask"));
      });
}

}  // namespace x_transformers
