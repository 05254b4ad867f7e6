// What a call of a stack must give: shapes and types by name, and what goes together. Reads no
// values.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "x_transformers/core/error.h"
#include "x_transformers/core/format.h"
#include "x_transformers/core/tensor_check.h"
#include "x_transformers/layers/attention_layers.h"
#include "x_transformers/nn/attention.h"
#include "x_transformers/nn/input_dtype.h"

namespace x_transformers {

namespace {

/// Positions [seq] or [batch, seq] of at least `count` tokens; the last ones count.
void require_positions(const at::Tensor& pos, const char* name, const char* tokens, int64_t batch,
                       int64_t count) {
  if (!pos.defined()) return;
  const bool fits =
      (pos.dim() == 1 || (pos.dim() == 2 && (pos.size(0) == 1 || pos.size(0) == batch))) &&
      pos.size(-1) >= count;
  expect(fits, at(name), shown(pos.sizes()),
         "positions [seq = {}] or [batch = {}, seq], one for each {}", count, batch, tokens);
}

}  // namespace

void AttentionLayersImpl::check_condition(const AttentionLayersInputs& inputs) const {
  const auto& o = options_;
  require(o.needs_condition() == inputs.condition.defined(), at("condition"), "{}",
          o.needs_condition() ? "is needed by the adaptive norm or scale"
                              : "given, but no adaptive norm or scale is on");
  require(!inputs.in_attn_cond.defined() || !o.reinject_input, at("in_attn_cond"),
          "cannot be combined with {}", option("reinject_input"));
}

void AttentionLayersImpl::check_mems(const AttentionLayersInputs& inputs) const {
  const auto batch = inputs.x.size(0);
  const auto used = inputs.mems.size();
  const auto first = inputs.memory_given();
  bool is_given = false;
  // A layer that gets none has no memory.
  bool has_two_lengths =
      first > 0 && used < layers_run(LayerType::attention, inputs.layers_execute_order);
  for (size_t i = 0; i < used; ++i) {
    const auto& mem = inputs.mems[i];
    is_given = is_given || mem.defined();
    const auto memory = mem.defined() ? mem.size(1) : 0;
    has_two_lengths = has_two_lengths || memory != first;
    const bool is_placed = rotary_pos_emb_ || polar_pos_emb_ || inputs.rotary_pos_emb.defined() ||
                           inputs.polar_pos_emb.defined();
    require(!is_placed || memory <= first, at("mems"),
            "none may be longer than the first ({}), as far as positions go back, got {}",
            how_many(first, "token"), memory);
    require(!inputs.cache || memory == first, at("mems"),
            "beside a cache expected {} in each, as in the first, got {}", how_many(first, "token"),
            memory);
  }
  for (size_t i = 0; i < inputs.mem_masks.size() && i < used; ++i) {
    if (!inputs.mems[i].defined()) continue;
    require_tensor(inputs.mem_masks[i], "mem_masks", TensorKind::boolean,
                   {{"batch", batch, true}, {"memory", inputs.mems[i].size(1)}});
  }
  if (has_two_lengths) check_mems_of_two_lengths(inputs);
  if (!is_given) return;
  for (const auto& step : plan_.layers) {
    // The mix of a single token is for memories too.
    require(!step.learned_value_residual_mix || inputs.x.size(1) == 1, at("mems"),
            "cannot be combined with {}, whose learned mix has no input for memories ({} = false "
            "works)",
            option("add_value_residual"), option("learned_value_residual_mix"));
  }
}

/// What has an entry for each key means something in layers of as many keys alone.
void AttentionLayersImpl::check_mems_of_two_lengths(const AttentionLayersInputs& inputs) const {
  const auto refuse = [&](const char* name, bool has_memories) {
    require(!has_memories, at(name),
            "has the keys of one layer, so mems must all be of one length, and one for each "
            "self-attention");
  };
  const auto tokens = inputs.token_keys();
  const auto is_wider = [&](const at::Tensor& t) {
    return t.defined() && t.dim() > 0 && t.size(-1) > std::max<int64_t>(tokens, 1);
  };
  refuse("self_attn_kv_mask", is_wider(inputs.self_attn_kv_mask));
  refuse("attn_mask", is_wider(inputs.attn_mask));
  refuse("attn_bias", is_wider(inputs.attn_bias));
  // The values and scores of a single key are for all.
  refuse("add_value_residual", options_.add_value_residual && tokens > 1);
  refuse("residual_attn", options_.residual_attn && tokens > 1);
}

void AttentionLayersImpl::check_masks(const AttentionLayersInputs& inputs) const {
  const auto batch = inputs.x.size(0), n = inputs.x.size(1);
  const auto tokens = inputs.token_keys(), all = tokens + inputs.memory_keys();
  const auto require_keys = [&](const at::Tensor& mask, const char* name, bool may_be_new) {
    require_tensor(mask, name, TensorKind::boolean, {{"batch", batch, true}, {"seq"}});
    const auto given = mask.defined() ? mask.size(1) : 1;
    require(given == tokens || given == all || given == 1 || (may_be_new && given == n), at(name),
            "has entries for {}, but there are {}", how_many(given, "key"), all);
  };
  if (inputs.goes_on()) {
    require_keys(inputs.mask, "mask", /*may_be_new=*/true);
  } else {
    require_tensor(inputs.mask, "mask", TensorKind::boolean, {{"batch", batch, true}, {"seq", n}});
  }
  require_keys(inputs.self_attn_kv_mask, "self_attn_kv_mask", /*may_be_new=*/false);
  require(!inputs.prefix_attn_len.defined() || options_.kind == LayersKind::prefix_decoder,
          at("prefix_attn_len"), "is for a PrefixDecoder");
  const auto prefixes = inputs.prefix_attn_len.defined() ? inputs.prefix_attn_len.numel() : 1;
  expect(prefixes == 1 || prefixes == batch, at("prefix_attn_len"), prefixes,
         "one length or {}, one for each sequence", batch);
}

void AttentionLayersImpl::check_documents(const AttentionLayersInputs& inputs) const {
  if (!inputs.documents.defined()) return;
  const auto reason = documents_unsupported();
  require(reason.empty(), at("documents"), "{}", reason);
  require(!inputs.cache, at("documents"), "are given whole, not to a cache");
  require(!inputs.keep_maps, at("documents"), "attention maps are of whole sequences");
  each_input(inputs, [](const std::string& name, const at::Tensor&, const InputField& field) {
    require(field.in_documents, at("documents"),
            "cannot be combined with {}, which is of whole sequences", name);
  });
}

void AttentionLayersImpl::check_positions(const AttentionLayersInputs& inputs) const {
  if (inputs.context_pos.defined() && !inputs.goes_on())
    require_positions(inputs.context_pos, "context_pos", "token of the context", inputs.x.size(0),
                      inputs.context.size(1));
  require_broadcast(inputs.polar_pos_emb.key_bias, "polar_pos_emb", TensorKind::floating,
                    {{"heads", options_.heads}, {"one", 1}, {"dim_head", options_.attn.dim_head}});
  const auto& pos = inputs.pos;
  if (!pos.defined()) return;
  const auto memory = inputs.memory_given(), n = inputs.x.size(1);
  if (pos.dim() == 3) {
    require(rel_pos_ && !rotary_pos_emb_ && !polar_pos_emb_, at("pos"),
            "positions of each head are for {} alone", option("alibi_pos_bias"));
    require_tensor(pos, "pos", TensorKind::integer,
                   {{"batch", inputs.x.size(0), true}, {"heads"}, {"seq"}});
  } else {
    require_positions(pos, "pos",
                      "token (memory tokens, cls tokens, prepended embeddings and mems among them)",
                      inputs.x.size(0), memory + n);
  }
  if (!rel_pos_) return;
  const auto given = pos.size(-1);
  if (inputs.goes_on()) {
    require(given >= inputs.token_keys(), at("pos"),
            "beside a cache a position bias takes {} positions or more, one for each token, cached "
            "ones among them, got {}",
            inputs.token_keys(), given);
  } else {
    require(given == n, at("pos"),
            "a position bias takes {} positions, one for each token, and no mems, got {}", n,
            given);
  }
}

/// The sizes that the inputs must have.
AxisSizes AttentionLayersImpl::sizes_of(const AttentionLayersInputs& inputs) const {
  const auto& o = options_;
  AxisSizes sizes;
  sizes[Axis::batch] = inputs.x.size(0);
  sizes[Axis::tokens] = inputs.x.size(1);
  sizes[Axis::dim] = o.dim;
  sizes[Axis::dim_condition] = o.dim_condition.value_or(o.dim);
  sizes[Axis::heads] = o.heads;
  sizes[Axis::dim_head] = o.attn.dim_head;
  if (inputs.context.defined()) {
    sizes[Axis::dim_context] = o.cross_attn->dim_context.value_or(o.dim);
    if (inputs.context.dim() == 3) sizes[Axis::context] = inputs.context.size(1);
  }
  for (const auto& [k, v] : inputs.self_attn_additional_kv) {
    if (k.defined()) sizes[Axis::added_keys] = k.size(2);
  }
  return sizes;
}

void AttentionLayersImpl::check_layers(const AttentionLayersInputs& inputs) const {
  const auto order = plan_.order_of(inputs.layers_execute_order);
  plan_.require_skips(order);
  if (!options_.integrate_layers) return;
  for (size_t i = 0; i < order.size(); ++i) {
    require(order[i] == static_cast<int64_t>(i), at("integrate_layers"),
            "each layer weighs those before it, so that {} can neither repeat nor move layers",
            option(options_.weight_tie_layers ? "weight_tie_layers" : "layers_execute_order"));
  }
}

void AttentionLayersImpl::check_additional_kv(const AttentionLayersInputs& inputs) const {
  for (const auto& pair : inputs.self_attn_additional_kv) {
    require_key_values(pair, options_.attn, inputs.x.size(0), "self_attn_additional_kv");
    require(!pair.first.defined() || (!polar_pos_emb_ && !inputs.polar_pos_emb.defined()),
            at("self_attn_additional_kv"), "has no polar positions, so not beside {}",
            option("polar_pos_emb"));
  }
}

void AttentionLayersImpl::check(const AttentionLayersInputs& inputs) const {
  require_tensor(inputs.x, "x", TensorKind::floating, {{"batch"}, {"seq"}, {"dim", options_.dim}});
  require_dtype_of(*this, first_weight_, inputs.x, "x");
  if (inputs.context.defined()) require_dtype_of(*this, first_weight_, inputs.context, "context");
  check_additional_kv(inputs);
  check_masks(inputs);
  require_inputs(inputs, sizes_of(inputs));
  check_condition(inputs);
  check_mems(inputs);
  check_positions(inputs);
  check_documents(inputs);
  check_layers(inputs);
  if (inputs.cache) {
    require(options_.causal, at("cache"), "needs a causal stack (Decoder)");
    require(!inputs.attn_mask.defined(), at("cache"), "cannot be combined with {}",
            option("attn_mask"));
  }
  // Neither reaches cross attention.
  require(!inputs.attn_bias.defined() || !rel_pos_ || plan_.count(LayerType::attention) == 0,
          at("attn_bias"), "given, but the stack has a position bias of its own");
}

}  // namespace x_transformers
