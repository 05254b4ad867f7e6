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
  const auto last = output.embeddings.size(1) - 1;
  const auto& arguments = options_.inputs.to_logits_kwargs;
  if (!net_->head_is_per_token())
    return net_->head(output.embeddings, arguments).select(1, last).to(at::kFloat);
  // Only the last position goes through the head.
  return net_->head(output.embeddings.narrow(1, last, 1), arguments).select(1, 0).to(at::kFloat);
}

namespace {

/// Whether a step with this model and these inputs reads the same memory each time, apart from its token.
bool has_fixed_step(const TransformerWrapper& net, const TransformerInputs& inputs) {
  const auto& layers = inputs.layers;
  const bool varies = inputs.pos.defined() || inputs.sum_embeds.defined() || !inputs.embed_ids.empty() ||
                      layers.attn_bias.defined() || layers.rotary_pos_emb.defined() || layers.polar_angles.defined() ||
                      layers.prefix_attn_len.defined();
  // Heads are mixed over keys that do not exist yet.
  const auto& attn = net->attn_layers()->options().attn;
  return !varies && !(attn.use_cope && attn.cope_talking_heads);
}

}  // namespace

bool TransformerSession::fits_fixed_caches(const at::Tensor& tokens) const {
  const auto max_seq_len = net_->options().max_seq_len;
  // Positions that were not learned are refused by the eager step.
  const bool has_position = !net_->has_abs_pos_emb() || max_seq_len == 0 || tokens_.size(1) <= max_seq_len;
  // Fixed caches are written in place, which autograd would not bear.
  return can_fix_.value_or(false) && tokens.size(1) == 1 && has_position && !at::GradMode::is_enabled();
}

at::Tensor TransformerSession::append_to_cache(const at::Tensor& tokens) {
  const auto device = tokens.device();
  if (!can_fix_ && tokens.size(1) == 1) {
    const bool wanted = options_.fixed_caches ? *options_.fixed_caches : device.is_cuda() && graph_refusal().empty();
    can_fix_ = wanted && has_fixed_step(net_, options_.inputs);
  }
  if (!fits_fixed_caches(tokens)) {
    step_.reset();
    return run(tokens, &*cache_);
  }
  if (!step_) {
    step_ = std::make_unique<DecodingStep>(device, cache_->layers, options_.expected_length,
                                           [this](const at::Tensor& token) { return run(token, &*cache_); });
  }
  return (*step_)(tokens);
}

at::Tensor TransformerSession::append(const at::Tensor& tokens) {
  require(tokens.dim() == 2 && !tokens.is_floating_point(), "prompts: expected tokens [batch, seq] of integers");
  const auto max_seq_len = net_->options().max_seq_len;
  tokens_ = tokens_.defined() ? at::cat({tokens_, tokens}, 1) : tokens;
  const auto length = tokens_.size(1);
  require(length > 0 || options_.inputs.prepend_embeds.defined(), "prompts: expected at least one token");
  const bool exceeds = options_.restrict_to_max_seq_len && max_seq_len > 0 && length > max_seq_len;
  if (exceeds) {
    step_.reset();
    cache_.reset();
    return run(tokens_.narrow(1, length - max_seq_len, max_seq_len), nullptr);
  }
  if (!can_cache_) return run(tokens_, nullptr);
  if (!cache_) {
    cache_ = net_->make_cache(length + options_.expected_length);
    return run(tokens_, &*cache_);
  }
  return append_to_cache(tokens);
}

void TransformerSession::reorder(const at::Tensor& rows) {
  // Rows that move from step to step have no place of their own.
  step_.reset();
  can_fix_ = false;
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
