#include "x_transformers/models/step_inputs.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>

#include "x_transformers/core/error.h"
#include "x_transformers/layers/input_rows.h"
#include "x_transformers/models/transformer_input_rows.h"

namespace x_transformers {
namespace {

/// The first `prefix` entries along `dim`, and `count` of those after them from `begin`.
at::Tensor entries(const at::Tensor& t, int64_t dim, int64_t prefix, int64_t begin, int64_t count) {
  if (begin == 0) return t.narrow(dim, 0, prefix + count);
  const auto used = t.narrow(dim, prefix + begin, count);
  return prefix == 0 ? used : at::cat({t.narrow(dim, 0, prefix), used}, dim);
}

/// The entries of `span` along `dim`, after `prefix` that always stay. One entry stands for all.
void cut(at::Tensor& t, int64_t dim, const TokenSpan& span, int64_t prefix, const char* name) {
  if (!t.defined() || t.dim() < (dim < 0 ? -dim : dim + 1) || t.size(dim) == 1) return;
  const auto needed = prefix + span.end();
  require(t.size(dim) >= needed, fmt::format("{}: has entries for {} tokens, but {} are decoded, "
                                             "and it cannot grow: give one for each token, "
                                             "prompt and generated",
                                             name, t.size(dim) - prefix, needed - prefix));
  t = entries(t, dim, prefix, span.begin, span.count);
}

/// Both dimensions of pairs of query and key.
void cut_pairs(at::Tensor& t, const TokenSpan& span, const char* name) {
  if (!t.defined() || t.dim() < 2) return;
  // Columns of memories stand in front of those of the sequence.
  const auto memory = t.size(-2) > 1 ? std::max<int64_t>(t.size(-1) - t.size(-2), 0) : 0;
  cut(t, -1, span, span.prefix + memory, name);
  cut(t, -2, span, span.prefix, name);
}

/// A mask [b, n] of the first step's tokens with what came since, without what the step cannot see.
void grow_mask(at::Tensor& mask, const TokenSpan& span) {
  if (!mask.defined() || mask.dim() != 2) return;
  if (mask.size(1) == 1 && span.prompt != 1) return;  // one entry stands for all
  const auto grown = std::max<int64_t>(span.end() - span.prompt, 0);
  if (grown > 0) mask = at::constant_pad_nd(mask, {0, grown}, 1);
  const auto prefix = mask.size(1) - span.end();
  if (span.window > 0 && prefix >= 0)
    mask = entries(mask, 1, prefix, span.window, span.end() - span.window);
}

bool has_entry_for_each_token(const at::Tensor& t) {
  return t.defined() && t.dim() == 3 && t.size(1) > 1;
}

}  // namespace

TransformerInputs step_inputs(const TransformerInputs& given, const TokenSpan& span) {
  auto inputs = given;
  cut(inputs.sum_embeds, -2, span, 0, "sum_embeds");
  for (auto& [name, ids] : inputs.embed_ids) cut(ids, -1, span, 0, "embed_ids");
  const bool is_embedded = inputs.pos.defined() && inputs.pos.is_floating_point();
  cut(inputs.pos, is_embedded ? -2 : -1, span, 0, "pos");

  auto& layers = inputs.layers;
  cut_pairs(layers.attn_mask, span, "attn_mask");
  cut_pairs(layers.attn_bias, span, "attn_bias");
  for (auto* t : {&layers.rotary_pos_emb.freqs, &layers.rotary_pos_emb.scale}) {
    cut(*t, 1, span, span.prefix, "rotary_pos_emb");
  }
  cut(layers.polar_angles, -2, span, span.prefix, "polar_pos_emb");
  cut(layers.deep_embeds, 1, span, span.prefix, "deep_embeds");
  if (has_entry_for_each_token(layers.condition))
    cut(layers.condition, 1, span, span.prefix, "condition");
  if (has_entry_for_each_token(layers.in_attn_cond))
    cut(layers.in_attn_cond, 1, span, span.prefix, "in_attn_cond");
  for (auto& residual : layers.self_attn_kv_residuals) {
    cut(residual, 1, span, span.prefix, "self_attn_kv_residuals");
  }

  grow_mask(inputs.mask, span);
  grow_mask(layers.self_attn_kv_mask, span);
  return inputs;
}

bool needs_whole_sequence(const TransformerInputs& inputs, size_t attentions) {
  const auto& layers = inputs.layers;
  const auto memory = [](const at::Tensor& mem) {
    return mem.defined() && mem.dim() == 3 ? mem.size(1) : 0;
  };
  const bool lacks_mems =
      inputs.mems.size() < attentions && !inputs.mems.empty() && memory(inputs.mems.front()) > 0;
  const bool has_mems_of_two_lengths =
      lacks_mems || std::any_of(inputs.mems.begin(), inputs.mems.end(), [&](const at::Tensor& mem) {
        return memory(mem) != memory(inputs.mems.front());
      });
  return has_mems_of_two_lengths || inputs.pos.defined() || layers.attn_mask.defined() ||
         layers.attn_bias.defined() || layers.rotary_pos_emb.defined() ||
         layers.polar_angles.defined() || layers.deep_embeds.defined() ||
         has_entry_for_each_token(layers.condition) ||
         has_entry_for_each_token(layers.in_attn_cond) || !layers.self_attn_kv_residuals.empty() ||
         layers.layers_execute_order.has_value();
}

void reorder(TransformerInputs& inputs, const at::Tensor& rows, int64_t batch) {
  if (batch == 1) return;  // one row stands for all, as many as there will be
  const auto pick = [&](at::Tensor& t, int64_t rank) {
    if (t.defined() && t.dim() >= rank && t.size(0) == batch) t = t.index_select(0, rows);
  };
  visit_own_rows(inputs, pick);
  visit_rows(inputs.layers, pick);
}

}  // namespace x_transformers
