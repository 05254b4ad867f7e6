#include "x_transformers/models/transformer_session.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "x_transformers/core/error.h"
#include "x_transformers/core/reason.h"
#include "x_transformers/models/step_inputs.h"

namespace x_transformers {
namespace {

at::Tensor chosen(const at::Tensor& logits, const std::shared_ptr<const TokenChoice>& choice) {
  return choice ? choice->choose(logits) : logits;
}

}  // namespace

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
  span.begin = options_.first_token + length_ - span.count;
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
  if (const auto left_out = length_ - tokens.size(1); !cache && left_out > 0)
    if (inputs.seq_start_pos.defined())
      inputs.seq_start_pos = (inputs.seq_start_pos - left_out).clamp_min(0);
  inputs.logits = false;
  const auto output = net_->forward(inputs);
  require(output.embeddings.size(0) == tokens.size(0), at("prompts"),
          "batch = {}, but what is given beside them has {} batch entries", tokens.size(0),
          output.embeddings.size(0));
  if (options_.embeddings) return output.embeddings.select(1, output.embeddings.size(1) - 1);
  return net_->last_logits(output.embeddings, inputs);
}

const at::Tensor& TransformerSession::all_tokens() {
  if (pieces_.size() > 1) pieces_ = {at::cat(pieces_, 1)};
  return pieces_.at(0);
}

bool TransformerSession::fits_static_caches(const at::Tensor& tokens) const {
  const auto max_seq_len = traits_.max_seq_len;
  // Positions that were not learned are refused by the eager step.
  const bool has_position = !traits_.has_abs_pos_emb || max_seq_len == 0 || length_ <= max_seq_len;
  // Fixed caches are written in place, which autograd does not allow.
  return can_fix_.value_or(false) && tokens.size(1) == 1 && has_position &&
         !at::GradMode::is_enabled();
}

/// The logits that follow, or what `choice` makes of them.
at::Tensor TransformerSession::append_to_cache(const at::Tensor& tokens, const Choice& choice) {
  const auto device = tokens.device();
  if (!can_fix_ && tokens.size(1) == 1) {
    const bool wanted = options_.static_caches ? *options_.static_caches
                                               : device.is_cuda() && is_empty(graph_unsupported());
    can_fix_ = wanted && net_->static_cache_unsupported(options_.inputs).empty();
  }
  if (!fits_static_caches(tokens)) {
    step_.reset();
    return chosen(run(tokens, &*cache_), choice);
  }
  if (!step_ || step_choice_ != choice) {
    step_.reset();
    step_choice_ = choice;
    DecodingStepOptions options{options_.expected_length};
    options.gives_token = choice != nullptr;
    if (choice) options.generator = choice->generator;
    const auto run_step = [this, choice](const DecodingStep::Tensors& token) {
      return DecodingStep::Tensors{chosen(run(token[0], &*cache_), choice)};
    };
    step_ = std::make_unique<DecodingStep>(device, cache_->layers, std::move(options), run_step);
  }
  return (*step_)({tokens})[0];
}

at::Tensor TransformerSession::append(const at::Tensor& tokens) {
  return advance(tokens, nullptr).to(at::kFloat);
}

at::Tensor TransformerSession::append_and_choose(const at::Tensor& tokens, const Choice& choice) {
  return advance(tokens, choice);
}

at::Tensor TransformerSession::advance(const at::Tensor& tokens, const Choice& choice) {
  require(tokens.dim() == 2 && !tokens.is_floating_point(), at("prompts"),
          "expected tokens [batch, seq] of integers");
  const auto max_seq_len = traits_.max_seq_len;
  if (pieces_.empty()) prompt_ = tokens.size(1);
  if (embedded_ && tokens.numel() > 0) {
    const auto highest = tokens.max().item<int64_t>();
    expect(highest < embedded_->count, at(embedded_->option), embedded_->count,
           "embeddings of all tokens that the model writes, among them {}", highest);
  }
  pieces_.push_back(tokens);
  length_ += tokens.size(1);
  require(length_ > 0 || options_.inputs.prepend_embeds.defined(), at("prompts"),
          "expected at least one token");
  const bool exceeds = options_.restrict_to_max_seq_len && max_seq_len > 0 && length_ > max_seq_len;
  if (exceeds) {
    step_.reset();
    cache_.reset();
    const auto window = all_tokens().narrow(1, length_ - max_seq_len, max_seq_len);
    return chosen(run(window, nullptr), choice);
  }
  if (!can_cache_) return chosen(run(all_tokens(), nullptr), choice);
  if (!cache_) {
    cache_ = net_->make_cache(length_ + options_.expected_length);
    return chosen(run(all_tokens(), &*cache_), choice);
  }
  return append_to_cache(tokens, choice);
}

void TransformerSession::reorder(const at::Tensor& entries) {
  // Entries that move from step to step have no place of their own.
  step_.reset();
  can_fix_ = false;
  reorder_batch(options_.inputs, entries, all_tokens().size(0));
  pieces_ = {all_tokens().index_select(0, entries)};
  if (cache_) cache_->reorder(entries);
  if (options_.seq_start_pos.defined())
    options_.seq_start_pos = options_.seq_start_pos.index_select(0, entries);
}

}  // namespace x_transformers
