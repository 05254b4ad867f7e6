#include "x_transformers/interchange/take_inputs.h"

#include <ATen/ATen.h>
#include <ATen/ExpandUtils.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "x_transformers/core/error.h"
#include "x_transformers/core/tensor_check.h"
#include "x_transformers/interchange/given_cache.h"
#include "x_transformers/interchange/interchange.h"
#include "x_transformers/interchange/token_bounds.h"
#include "x_transformers/ops/mask.h"
#include "x_transformers/ops/rows.h"

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

/// What stands in front of the tokens in a cache from outside.
int64_t cached_prefix(const TransformerWrapperOptions& options, const at::Tensor& prepend_embeds) {
  require_tensor(
      prepend_embeds, "prepend_embeds", TensorKind::floating,
      {{"batch"}, {"prepended"}, {"emb_dim", options.emb_dim.value_or(options.attn_layers.dim)}});
  const auto prepended = prepend_embeds.defined() ? prepend_embeds.size(1) : 0;
  return options.num_memory_tokens.value_or(0) + prepended;
}

/// Embeddings that are cached are not prepended again; which of them exist goes into the mask of
/// all keys.
void drop_prepended(TransformerInputs& inputs, const NewTokens& tokens) {
  if (inputs.prepend_mask.defined()) {
    require_tensor(
        inputs.prepend_mask, "prepend_mask", TensorKind::boolean,
        {{"batch", inputs.x.size(0), true}, {"prepended", inputs.prepend_embeds.size(1)}});
    const auto count = tokens.all - tokens.prefix;
    const auto mask = inputs.mask.defined()
                          ? pad_mask_left(inputs.mask, count - inputs.mask.size(-1))
                          : at::ones({1, count}, inputs.x.options().dtype(at::kBool));
    const auto joined = cat_rows(inputs.prepend_mask, mask, 1);
    inputs.mask = pad_mask_left(joined, tokens.all - joined.size(1));
  }
  require_tensor(inputs.prepend_embeds, "prepend_embeds", TensorKind::floating,
                 {{"batch", inputs.x.size(0), true}, {"prepended"}, {"emb_dim"}});
  inputs.prepend_embeds = inputs.prepend_mask = at::Tensor();
}

void use_cache(TransformerCache& cache, LayersCache layers, int64_t prefix,
               TransformerInputs& inputs) {
  const NewTokens tokens = {inputs.x.size(1), layers.length + inputs.x.size(1), prefix};
  cache.layers = std::move(layers);
  cache.prefix = prefix;
  inputs.cache = &cache;
  drop_prepended(inputs, tokens);
  tokens.cut(inputs.sum_embeds, -2, "sum_embeds");
  for (auto& [name, ids] : inputs.embed_ids) tokens.cut(ids, -1, "embed_ids");
  if (inputs.pos.defined() && inputs.pos.is_floating_point()) tokens.cut(inputs.pos, -2, "pos");
  tokens.keep(inputs.layers);
}

}  // namespace

AttentionCall::AttentionCall(Arguments& arguments, const AttentionImpl& attention) {
  inputs.x = arguments.required_tensor("x");
  inputs.context = arguments.tensor("context");
  inputs.mask = arguments.tensor("mask");
  inputs.context_mask = arguments.tensor("context_mask");
  inputs.attn_mask = arguments.tensor("attn_mask");
  inputs.attn_bias = arguments.tensor("attn_bias");
  rel_pos_ = arguments.model("rel_pos");
  if (rel_pos_) {
    inputs.rel_pos = dynamic_cast<PositionBias*>(&rel_pos_->module());
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
  rotary_.angles = take_rotary(arguments, "rotary_pos_emb");
  rotary_.context_angles = take_rotary(arguments, "context_rotary_pos_emb");
  if (rotary_.angles.defined()) inputs.rotary = &rotary_;
  if (const auto given = take_pair(arguments, "polar_pos_emb")) {
    const auto& o = attention.options();
    require_broadcast(given->second, "polar_pos_emb", TensorKind::floating,
                      {{"heads", o.heads}, {"one", 1}, {"dim_head", o.dim_head}});
    const auto angles = given->first.dim() == 3 ? given->first.unsqueeze(1) : given->first;
    polar_ = PolarInputs{angles, angles + given->second};
    inputs.polar = &*polar_;
  }
  require(inputs.x.dim() >= 3, "x: expected [batch, seq, dim]");
  cached = take_cached_kv(arguments, attention.options(), inputs.x.size(-3));
  if (!cached.empty()) {
    auto keys = cached[0];
    if (inputs.rotary && !attention.options().use_latent_kv) {
      keys = attention.rotate_keys(keys, rotary_.angles, inputs.x.size(-2));
    }
    cache_.append(keys, cached.size() > 1 ? cached[1] : at::Tensor());
    inputs.cache = &cache_;
  }
  inputs.hybrid_hidden = arguments.tensor("cache.hybrid_hidden");
  packed_ = take_packed(arguments, "flash_pack_seq_kwargs");
  if (packed_) inputs.packed = &*packed_;
}

StackCall::StackCall(Arguments& arguments, const AttentionLayersImpl& layers) {
  auto x = arguments.required_tensor("x");
  cache_ = take_cache(arguments, layers, x, {CacheTaker::stack, 0});
  inputs = take_layers_inputs(arguments);
  if (cache_) NewTokens{x.size(1), cache_->length + x.size(1), 0}.keep(inputs);
  inputs.x = x;
  inputs.mask = arguments.tensor("mask");
  inputs.mems = arguments.tensors("mems");
  inputs.mem_masks = arguments.tensors("mem_masks");
  inputs.pos = arguments.tensor("pos");
  inputs.seq_start_pos = arguments.tensor("seq_start_pos");
  if (cache_) inputs.cache = &*cache_;
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
}

TransformerCall::TransformerCall(Arguments& arguments, TransformerWrapperImpl& net) {
  auto x = arguments.tensor("x");
  const auto prefix = cached_prefix(net.options(), arguments.tensor("prepend_embeds"));
  auto given_cache = take_cache(arguments, *net.attn_layers(), x, {CacheTaker::wrapper, prefix});
  inputs = take_transformer_inputs(arguments);
  inputs.x = x;
  if (arguments.source() == ArgumentSource::outside) {
    require_in_range(x, "x", token_range(net));
    require_in_range(inputs, net);
  }
  if (given_cache) use_cache(cache_, std::move(*given_cache), prefix, inputs);
}

TransformerInputs take_transformer_inputs(Arguments& arguments) {
  TransformerInputs inputs;
  inputs.mask = arguments.tensor("mask");
  inputs.mems = arguments.tensors("mems");
  inputs.mem_masks = arguments.tensors("mem_masks");
  inputs.recycle_steps = arguments.integer("recycle_steps");
  inputs.pos = arguments.tensor("pos");
  inputs.prepend_embeds = arguments.tensor("prepend_embeds");
  inputs.prepend_mask = arguments.tensor("prepend_mask");
  inputs.embed_ids = arguments.tensors_by_key("embed_ids");
  inputs.sum_embeds = arguments.tensor("sum_embeds");
  inputs.seq_start_pos = arguments.tensor("seq_start_pos");
  inputs.token_emb_kwargs = arguments.tensors_by_key("token_emb_kwargs");
  inputs.to_logits_kwargs = arguments.tensors_by_key("to_logits_kwargs");
  inputs.layers = take_layers_inputs(arguments);
  return inputs;
}

}  // namespace x_transformers
