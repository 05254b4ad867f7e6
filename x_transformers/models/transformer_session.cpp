#include "x_transformers/models/transformer_session.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "x_transformers/core/error.h"
#include "x_transformers/models/step_inputs.h"

namespace x_transformers {

TransformerSession::TransformerSession(std::shared_ptr<CachedTokenModel> net,
                                       SessionOptions options)
    : net_(std::move(net)),
      traits_(net_->traits()),
      options_(std::move(options)),
      can_cache_(options_.cache_kv && net_->cache_unsupported(options_.inputs).empty()) {
  const auto embedded = net_->embedded_tokens(), predicted = net_->predicted_tokens();
  if (embedded && (!predicted || predicted->count > embedded->count)) embedded_ = embedded;
}

/// The session's inputs for a call with the last tokens so far: the new ones, if it goes on from a
/// cache.
TransformerInputs TransformerSession::inputs_of_step(const at::Tensor& tokens, bool goes_on) const {
  TokenSpan span;
  span.count = tokens.size(1);
  span.begin = options_.first_token + tokens_.size(1) - span.count;
  span.window = goes_on ? options_.first_token : span.begin;
  span.prompt = options_.first_token + prompt_;
  span.prefix = net_->entries_before_tokens(options_.inputs);
  if (options_.inputs.prepend_embeds.defined())
    span.prepended = options_.inputs.prepend_embeds.size(1);
  span.has_prefix = !goes_on;
  auto inputs = step_inputs(options_.inputs, span);
  if (goes_on) drop_cached(inputs);
  return inputs;
}

at::Tensor TransformerSession::run(const at::Tensor& tokens, TransformerCache* cache) {
  auto inputs = inputs_of_step(tokens, cache && cache->layers.length > 0);
  inputs.x = tokens;
  inputs.cache = cache;
  inputs.seq_start_pos = options_.seq_start_pos;
  if (const auto left_out = tokens_.size(1) - tokens.size(1); !cache && left_out > 0)
    if (inputs.seq_start_pos.defined())
      inputs.seq_start_pos = (inputs.seq_start_pos - left_out).clamp_min(0);
  inputs.logits = false;
  const auto output = net_->forward(inputs);
  require(output.embeddings.size(0) == tokens.size(0),
          fmt::format("prompts: batch = {}, but what is given beside them has {} batch entries",
                      tokens.size(0), output.embeddings.size(0)));
  if (options_.embeddings) return output.embeddings.select(1, output.embeddings.size(1) - 1);
  return net_->last_logits(output.embeddings, inputs).to(at::kFloat);
}

bool TransformerSession::fits_static_caches(const at::Tensor& tokens) const {
  const auto max_seq_len = traits_.max_seq_len;
  // Positions that were not learned are refused by the eager step.
  const bool has_position =
      !traits_.has_abs_pos_emb || max_seq_len == 0 || tokens_.size(1) <= max_seq_len;
  // Fixed caches are written in place, which autograd would not bear.
  return can_fix_.value_or(false) && tokens.size(1) == 1 && has_position &&
         !at::GradMode::is_enabled();
}

at::Tensor TransformerSession::append_to_cache(const at::Tensor& tokens) {
  const auto device = tokens.device();
  if (!can_fix_ && tokens.size(1) == 1) {
    const bool wanted = options_.static_caches ? *options_.static_caches
                                               : device.is_cuda() && graph_unsupported().empty();
    can_fix_ = wanted && net_->static_cache_unsupported(options_.inputs).empty();
  }
  if (!fits_static_caches(tokens)) {
    step_.reset();
    return run(tokens, &*cache_);
  }
  if (!step_) {
    step_ = std::make_unique<DecodingStep>(device, cache_->layers, options_.expected_length,
                                           [this](const DecodingStep::Tensors& token) {
                                             return DecodingStep::Tensors{run(token[0], &*cache_)};
                                           });
  }
  return (*step_)({tokens})[0];
}

at::Tensor TransformerSession::append(const at::Tensor& tokens) {
  require(tokens.dim() == 2 && !tokens.is_floating_point(),
          "prompts: expected tokens [batch, seq] of integers");
  const auto max_seq_len = traits_.max_seq_len;
  if (!tokens_.defined()) prompt_ = tokens.size(1);
  if (embedded_ && tokens.numel() > 0) {
    const auto highest = tokens.max().item<int64_t>();
    require(highest < embedded_->count,
            fmt::format("{}: expected embeddings of all tokens that the model writes, among them "
                        "{}, got {}",
                        embedded_->option, highest, embedded_->count));
  }
  tokens_ = tokens_.defined() ? at::cat({tokens_, tokens}, 1) : tokens;
  const auto length = tokens_.size(1);
  require(length > 0 || options_.inputs.prepend_embeds.defined(),
          "prompts: expected at least one token");
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

void TransformerSession::reorder(const at::Tensor& entries) {
  // Entries that move from step to step have no place of their own.
  step_.reset();
  can_fix_ = false;
  reorder_batch(options_.inputs, entries, tokens_.size(0));
  tokens_ = tokens_.index_select(0, entries);
  if (cache_) cache_->reorder(entries);
  if (options_.seq_start_pos.defined())
    options_.seq_start_pos = options_.seq_start_pos.index_select(0, entries);
}

}  // namespace x_transformers
