#include "x_transformers/wrappers/transformer_session.h"

#include <ATen/ATen.h>

#include "x_transformers/core/error.h"

namespace x_transformers {

TransformerSession::TransformerSession(TransformerWrapper net, SessionOptions options)
    : net_(std::move(net)), options_(std::move(options)),
      can_cache_(options_.cache_kv && net_->cache_refusal().empty()) {}

at::Tensor TransformerSession::run(const at::Tensor& tokens, TransformerCache* cache) {
  auto inputs = options_.inputs;
  inputs.x = tokens;
  inputs.cache = cache;
  inputs.seq_start_pos = options_.seq_start_pos;
  if (cache && cache->layers.length > 0) {
    inputs.prepend_embeds = inputs.prepend_mask = at::Tensor();
    inputs.mems.clear();
    inputs.mem_masks.clear();
  }
  inputs.logits = false;
  const auto output = net_->forward(inputs);
  // Only the last position goes through the head.
  return net_->head(output.embeddings.narrow(1, output.embeddings.size(1) - 1, 1)).select(1, 0).to(at::kFloat);
}

at::Tensor TransformerSession::append(const at::Tensor& tokens) {
  require(tokens.dim() == 2 && !tokens.is_floating_point(), "prompts: expected tokens [batch, seq] of integers");
  const auto max_seq_len = net_->options().max_seq_len;
  tokens_ = tokens_.defined() ? at::cat({tokens_, tokens}, 1) : tokens;
  const auto length = tokens_.size(1);
  require(length > 0 || options_.inputs.prepend_embeds.defined(), "prompts: expected at least one token");
  const bool exceeds = options_.restrict_to_max_seq_len && max_seq_len > 0 && length > max_seq_len;
  if (exceeds) {
    cache_.reset();
    return run(tokens_.narrow(1, length - max_seq_len, max_seq_len), nullptr);
  }
  if (!can_cache_) return run(tokens_, nullptr);
  if (!cache_) {
    cache_ = net_->make_cache(length + options_.expected_length);
    return run(tokens_, &*cache_);
  }
  return run(tokens, &*cache_);
}

void TransformerSession::reorder(const at::Tensor& rows) {
  const auto pick = [&](at::Tensor& t) {
    if (t.defined()) t = t.index_select(0, rows);
  };
  pick(tokens_);
  if (cache_) cache_->reorder(rows);
  pick(options_.seq_start_pos);
  auto& inputs = options_.inputs;
  for (auto* t : {&inputs.prepend_embeds, &inputs.prepend_mask, &inputs.sum_embeds, &inputs.layers.context,
                  &inputs.layers.context_mask, &inputs.layers.condition, &inputs.layers.in_attn_cond}) {
    pick(*t);
  }
  for (auto& mem : inputs.mems) pick(mem);
  for (auto& mask : inputs.mem_masks) pick(mask);
}

}  // namespace x_transformers
