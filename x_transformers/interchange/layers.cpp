// Stacks of layers and their parts in the interchange.
#include <ATen/ATen.h>
#include <ATen/ExpandUtils.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "x_transformers/core/tensor_check.h"
#include "x_transformers/interchange/given_cache.h"
#include "x_transformers/interchange/registry.h"
#include "x_transformers/interchange/token_bounds.h"
#include "x_transformers/layers/attention_layers.h"
#include "x_transformers/layers/attention_pool.h"

namespace x_transformers {
namespace {

/// Rotary angles from outside: frequencies [b or 1, n, d] and a scale, which may be a number.
RotaryAngles take_rotary(Arguments& arguments, const std::string& name) {
  const auto given = arguments.tensors(name);
  if (given.empty()) return {};
  // [n, d], [b, n, d] or [b, 1, n, d]
  const auto batched = [](const at::Tensor& t) {
    if (t.dim() == 2) return t.unsqueeze(0);
    return t.dim() == 4 && t.size(1) == 1 ? t.squeeze(1) : t;
  };
  RotaryAngles angles;
  angles.freqs = batched(given[0]);
  if (given.size() == 1) return angles;
  const auto scale = batched(given[1]);
  require(at::is_expandable_to(scale.sizes(), angles.freqs.sizes()),
          fmt::format("{}: expected a scale of [{}], got [{}]", name,
                      fmt::join(angles.freqs.sizes(), ", "), fmt::join(scale.sizes(), ", ")));
  angles.scale = scale.expand_as(angles.freqs);
  return angles;
}

/// NAME.0 and NAME.1, or nothing.
std::optional<std::pair<at::Tensor, at::Tensor>> take_pair(Arguments& arguments,
                                                           const std::string& name) {
  const auto given = arguments.tensors(name);
  if (given.empty()) return std::nullopt;
  require(given.size() == 2, fmt::format("{}: expected two tensors, {}.0 and {}.1, got {}", name,
                                         name, name, given.size()));
  return std::pair{given[0], given[1]};
}

/// Pairs NAME.LAYER.0 and NAME.LAYER.1.
std::vector<std::pair<at::Tensor, at::Tensor>> take_pairs(Arguments& arguments,
                                                          const std::string& name) {
  const auto given = arguments.tensors_by_key(name);
  std::vector<std::pair<at::Tensor, at::Tensor>> pairs;
  for (int64_t layer = 0;; ++layer) {
    const auto key = std::to_string(layer) + ".";
    const auto k = given.find(key + "0"), v = given.find(key + "1");
    if (k == given.end() && v == given.end()) return pairs;
    require(k != given.end() && v != given.end(),
            name + ": needs both keys (." + key + "0) and values (." + key + "1)");
    pairs.emplace_back(k->second, v->second);
  }
}

/// [b, n, d] or [layers, b, n, d] as one for each layer.
std::vector<at::Tensor> take_residuals(Arguments& arguments, const std::string& name) {
  const auto given = arguments.tensor(name);
  if (!given.defined()) return {};
  if (given.dim() == 3) return {given};
  return given.unbind(0);
}

Value attended_list(const LayersOutput& output) {
  Value value;
  value.add("hiddens", Value::list(output.hiddens));
  value.add("last_hidden", output.out);
  value.add("layer_hiddens", Value::list(output.layer_hiddens));
  return value;
}

Value call_layers(AttentionLayers& layers, const std::string& method, Arguments& arguments) {
  require_forward(layers->options().type_name(), method);
  auto x = arguments.required_tensor("x");
  auto cache = take_cache(arguments, *layers, x, {CacheTaker::stack, 0});
  auto inputs = take_layers_inputs(arguments);
  if (cache) NewTokens{x.size(1), cache->length + x.size(1), 0}.keep(inputs);
  inputs.x = x;
  inputs.mask = arguments.tensor("mask");
  inputs.mems = arguments.tensors("mems");
  inputs.mem_masks = arguments.tensors("mem_masks");
  inputs.pos = arguments.tensor("pos");
  inputs.seq_start_pos = arguments.tensor("seq_start_pos");
  if (cache) inputs.cache = &*cache;
  if (const auto deep = take_pair(arguments, "deep_embeds_and_ids")) {
    const auto& [factors, all_ids] = *deep;
    require_kind(all_ids, "deep_embeds_and_ids", TensorKind::integer);
    require(all_ids.dim() == 2 && all_ids.size(1) >= x.size(1),
            fmt::format("deep_embeds_and_ids: expected ids [batch, seq = {}]", x.size(1)));
    const auto ids = all_ids.narrow(1, all_ids.size(1) - x.size(1), x.size(1));
    if (arguments.source() == ArgumentSource::outside)
      require_in_range(ids, "deep_embeds_and_ids", {factors.size(0), "the number of factors"});
    inputs.deep_embeds = factors.index({ids});
  }
  inputs.keep_hiddens = arguments.flag("return_hiddens");
  const auto output = layers->forward(inputs);
  if (!inputs.keep_hiddens) return output.out;
  return Value::list(std::vector<Value>{output.out, attended_list(output)});
}

Value call_attention(Attention& attention, const std::string& method, Arguments& arguments) {
  require_forward("Attention", method);
  AttentionInputs inputs;
  inputs.x = arguments.required_tensor("x");
  inputs.context = arguments.tensor("context");
  inputs.mask = arguments.tensor("mask");
  inputs.context_mask = arguments.tensor("context_mask");
  inputs.attn_mask = arguments.tensor("attn_mask");
  inputs.attn_bias = arguments.tensor("attn_bias");
  const auto rel_pos = arguments.model("rel_pos");
  if (rel_pos) {
    inputs.rel_pos = dynamic_cast<PositionBias*>(&rel_pos->module());
    require(inputs.rel_pos != nullptr,
            "kwargs.rel_pos: expected AlibiPositionalBias, RelativePositionBias or "
            "DynamicPositionBias");
  }
  inputs.pos = arguments.tensor("pos");
  inputs.prev_attn = arguments.tensor("prev_attn");
  inputs.mem = arguments.tensor("mem");
  inputs.mem_mask = arguments.tensor("mem_mask");
  inputs.value_residual = arguments.tensor("value_residual");
  inputs.kv_input_residual = arguments.tensor("kv_input_residual");
  inputs.additional_key_value_mask = arguments.tensor("additional_key_value_mask");
  if (const auto additional = take_pair(arguments, "additional_key_values"))
    inputs.additional_key_values = *additional;
  RotaryInputs rotary;
  rotary.angles = take_rotary(arguments, "rotary_pos_emb");
  rotary.context_angles = take_rotary(arguments, "context_rotary_pos_emb");
  if (rotary.angles.defined()) inputs.rotary = &rotary;
  std::optional<PolarInputs> polar;
  if (const auto given = take_pair(arguments, "polar_pos_emb")) {
    const auto& o = attention->options();
    require_broadcast(given->second, "polar_pos_emb", TensorKind::floating,
                      {{"heads", o.heads}, {"one", 1}, {"dim_head", o.dim_head}});
    const auto angles = given->first.dim() == 3 ? given->first.unsqueeze(1) : given->first;
    polar = PolarInputs{angles, angles + given->second};
    inputs.polar = &*polar;
  }
  AttentionState cache;
  require(inputs.x.dim() >= 3, "x: expected [batch, seq, dim]");
  const auto cached = take_cached_kv(arguments, attention->options(), inputs.x.size(-3));
  if (!cached.empty()) {
    auto keys = cached[0];
    if (inputs.rotary && !attention->options().use_latent_kv) {
      keys = attention->rotate_keys(keys, rotary.angles, inputs.x.size(-2));
    }
    cache.append(keys, cached.size() > 1 ? cached[1] : at::Tensor());
    inputs.cache = &cache;
  }
  inputs.hybrid_hidden = arguments.tensor("cache.hybrid_hidden");
  const auto packed = take_packed(arguments, "flash_pack_seq_kwargs");
  if (packed) inputs.packed = &*packed;
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

AttentionLayersInputs take_layers_inputs(Arguments& arguments) {
  AttentionLayersInputs inputs;
  inputs.context = arguments.tensor("context");
  inputs.context_mask = arguments.tensor("context_mask");
  inputs.attn_mask = arguments.tensor("attn_mask");
  inputs.self_attn_kv_mask = arguments.tensor("self_attn_kv_mask");
  inputs.context_pos = arguments.tensor("context_pos");
  inputs.attn_bias = arguments.tensor("attn_bias");
  inputs.condition = arguments.tensor("condition");
  inputs.in_attn_cond = arguments.tensor("in_attn_cond");
  inputs.prefix_attn_len = arguments.tensor_or_integers("prefix_attn_len");
  inputs.rotary_pos_emb = take_rotary(arguments, "rotary_pos_emb");
  if (const auto polar = take_pair(arguments, "polar_pos_emb")) {
    inputs.polar_angles = polar->first.dim() == 3 ? polar->first.unsqueeze(1) : polar->first;
    inputs.polar_key_bias = polar->second;
  }
  inputs.self_attn_additional_kv = take_pairs(arguments, "self_attn_additional_kv");
  inputs.additional_kv_mask = arguments.tensor("additional_kv_mask");
  inputs.detach_additional_kv = arguments.flag("detach_additional_kv");
  inputs.route_additional_kv_to_top = arguments.flag("route_additional_kv_to_top", true);
  inputs.flash_pack_seq_kwargs = take_packed(arguments, "flash_pack_seq_kwargs");
  inputs.flash_pack_seq_context_kwargs = take_packed(arguments, "flash_pack_seq_context_kwargs");
  inputs.layers_execute_order = arguments.integers("layers_execute_order");
  inputs.self_attn_kv_residuals = take_residuals(arguments, "self_attn_kv_residuals");
  inputs.cross_attn_kv_residuals = take_residuals(arguments, "cross_attn_kv_residuals");
  return inputs;
}

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
