// What a call of Attention must give: shapes, by name. Reads no values.
#include <fmt/format.h>

#include "x_transformers/core/error.h"
#include "x_transformers/core/tensor_check.h"
#include "x_transformers/core/unread_input.h"
#include "x_transformers/core/warning.h"
#include "x_transformers/nn/attention.h"

namespace x_transformers {

void require_key_values(const std::pair<at::Tensor, at::Tensor>& given, const AttentionOptions& o,
                        int64_t batch, const char* name) {
  const auto& [k, v] = given;
  require_tensor(k, name, TensorKind::floating,
                 {{"batch", batch, true}, {"heads"}, {"keys"}, {"dim_head", o.dim_head}});
  if (!k.defined()) return;
  const auto heads = k.size(1);
  require(heads > 0 && o.heads % heads == 0, at(name), "{} heads do not divide {} = {}", heads,
          option("heads"), o.heads);
  require_tensor(v, name, TensorKind::floating,
                 {{"batch", batch, true},
                  {"heads", heads},
                  {"keys", k.size(2)},
                  {"value_dim_head", o.value_dim_head.value_or(o.dim_head)}});
}

void AttentionImpl::drop_unread(AttentionInputs& inputs) const {
  warn_of_packing(options_, inputs.packed != nullptr);
  if (!options_.flash_pack_seq) inputs.packed = nullptr;
  drop_unless(inputs.rel_pos != nullptr, inputs.pos, "pos", "there is no {} to take it",
              at("rel_pos"));
  drop_unless(inputs.mem.defined() || inputs.cache, inputs.mem_mask, "mem_mask", "there is no {}",
              at("mem"));
  drop_unless(inputs.additional_key_values.first.defined(), inputs.additional_key_value_mask,
              "additional_key_value_mask", "there are no {}", at("additional_key_values"));
  if (!options_.data_dependent_alibi) return;
  const auto alibi = at("data_dependent_alibi");
  drop_unless(false, inputs.attn_bias, "attn_bias", "{} stands in its place", alibi);
  if (inputs.rel_pos)
    warn_unused(at("rel_pos"), "changes nothing, {} stands in its place", option(alibi.name));
  inputs.rel_pos = nullptr;
  inputs.pos = at::Tensor();
}

void AttentionImpl::check_sequences(const AttentionInputs& inputs) const {
  const auto& o = options_;
  if (o.qkv_receive_diff_residuals) {
    require(!inputs.context.defined(), at("qkv_receive_diff_residuals"), "only for self-attention");
    require(inputs.x.dim() == 4 && inputs.x.size(0) == 3, at("x"),
            "expected three views [3, b, n, dim]");
  } else {
    require_tensor(inputs.x, "x", TensorKind::floating, {{"batch"}, {"seq"}, {"dim", o.dim}});
  }
  require(inputs.context.defined() || dim_kv() == o.dim, at("dim_context"),
          "{} is not {} = {}, so a {} is needed", dim_kv(), option("dim"), o.dim,
          option("context"));
}

/// Features of what keys and values are made of.
int64_t AttentionImpl::dim_kv() const {
  // Latents are made of `dim` features, whatever the context.
  return options_.use_latent_kv ? options_.dim : options_.dim_context.value_or(options_.dim);
}

void AttentionImpl::check(const AttentionInputs& inputs) const {
  check_sequences(inputs);
  const auto batch = inputs.x.size(-3), n = inputs.x.size(-2);
  const auto& context = inputs.context;
  const auto& additional = inputs.additional_key_values;
  require_key_values(additional, options_, batch, "additional_key_values");
  AxisSizes sizes;
  sizes[Axis::batch] = batch;
  sizes[Axis::tokens] = inputs.goes_on() ? kAnySize : n;
  sizes[Axis::dim_context] = sizes[Axis::dim_kv] = dim_kv();
  sizes[Axis::kv_tokens] = context.defined() && context.dim() == 3 ? context.size(1) : n;
  if (inputs.mem.defined() && inputs.mem.dim() == 3) sizes[Axis::memory] = inputs.mem.size(1);
  if (additional.first.defined()) sizes[Axis::added_keys] = additional.first.size(2);
  require_inputs(inputs, sizes);
  if (options_.data_dependent_alibi && context.defined()) {
    const auto keys = context.size(-2);
    expect(n == 1 || n == keys, at("data_dependent_alibi"), keys,
           "a context of as many keys as there are queries, {}, since each has a query's gate", n);
  }
  require(!inputs.polar || !additional.first.defined(), at("additional_key_values"),
          "have no polar positions, so not beside {}", option("polar_pos_emb"));
  if (inputs.packed && options_.flash_pack_seq) check_packed(inputs);
}

void AttentionImpl::check_packed(const AttentionInputs& inputs) const {
  const auto batch = inputs.x.size(-3);
  validate(*inputs.packed, options_.causal);
  const auto check_batch = [&](const at::Tensor& t) {
    const auto rows = t.dim() == 2 ? t.size(0) : 1;
    expect(rows == 1 || rows == batch, at("flash_pack_seq_kwargs"), rows,
           "boundaries and slopes of one row or batch = {}", batch);
  };
  PackedSequences::tensors(*inputs.packed, check_batch);
  require(!inputs.cache, at("flash_pack_seq_kwargs"),
          "packed sequences are given whole, not to a cache");
  require(!options_.causal || !inputs.mem.defined(), at("flash_pack_seq_kwargs"),
          "causal packed sequences take no mems");
}

/// What is given for pairs of query and key. Keys that are memories may be left out.
void AttentionImpl::check_pairs(const AttentionInputs& inputs, const Counts& counts) const {
  const auto batch = inputs.x.size(-3);
  const auto memory = inputs.cached_memory + (inputs.mem.defined() ? inputs.mem.size(1) : 0);
  const auto tokens = counts.sequence_keys - memory;
  const auto require_pairs = [&](const at::Tensor& t, const char* name, TensorKind kind) {
    if (!t.defined()) return;
    const auto given = t.dim() == 0 ? 1 : t.size(-1);
    const bool fits = given == counts.keys || given == counts.sequence_keys;
    require_broadcast(t, name, kind,
                      {{"batch", batch},
                       {"heads", options_.heads},
                       {"queries", counts.queries},
                       {"keys", fits ? given : tokens}});
  };
  require(!inputs.attn_mask.defined() || inputs.attn_mask.dim() >= 2, at("attn_mask"),
          "expected 2 to 4 dimensions, got 1");
  require_pairs(inputs.attn_mask, "attn_mask", TensorKind::boolean);
  require_pairs(inputs.attn_bias, "attn_bias", TensorKind::floating);
  // Attend knows how many keys have scores.
  require_broadcast(
      inputs.prev_attn, "prev_attn", TensorKind::floating,
      {{"batch", batch}, {"heads", options_.heads}, {"queries", counts.queries}, {"keys"}});
}

void AttentionImpl::check_given(const GivenState& given, const Dimension& batch,
                                const std::string& name) const {
  const auto& o = options_;
  const auto first = name + ".cached_kv.0", second = name + ".cached_kv.1";
  if (o.use_latent_kv) {
    require_tensor(given.keys, first.c_str(), TensorKind::floating,
                   {batch, {"tokens"}, {"dim_latent_kv", *o.dim_latent_kv}});
    require(given.values.defined() || !o.latent_rope_subheads, at(second),
            "is needed beside the latents, for {}", option("latent_rope_subheads"));
    require_tensor(given.values, second.c_str(), TensorKind::floating,
                   {batch,
                    {"latent_rope_subheads", o.latent_rope_subheads.value_or(0)},
                    {"tokens", given.keys.size(1)},
                    {"dim_head", o.dim_head}});
    return;
  }
  require_tensor(given.keys, first.c_str(), TensorKind::floating,
                 {batch, {"kv_heads", kv_heads_}, {"tokens"}, {"dim_head", o.dim_head}});
  require(given.values.defined(), at(second), "is needed beside the keys");
  // Mixed or normed values have a head for each query head.
  const bool has_all_heads = given.values.dim() == 4 && given.values.size(1) == o.heads;
  require_tensor(given.values, second.c_str(), TensorKind::floating,
                 {batch,
                  {"kv_heads", has_all_heads ? o.heads : kv_heads_},
                  {"tokens", given.keys.size(2)},
                  {"value_dim_head", value_dim_head_}});
}

}  // namespace x_transformers
