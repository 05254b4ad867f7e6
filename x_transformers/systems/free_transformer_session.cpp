#include "x_transformers/systems/free_transformer_session.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <utility>

#include "x_transformers/core/error.h"

namespace x_transformers {

FreeTransformerSession::FreeTransformerSession(FreeTransformerParts parts, Options options)
    : parts_(std::move(parts)),
      options_(std::move(options)),
      can_cache_(options_.use_cache && parts_.tail->cache_unsupported().empty() &&
                 (!parts_.head || parts_.head->cache_unsupported().empty())) {}

/// Draws the codes of new tokens, or that of the whole sequence with the first of them. Rows that
/// stem from one of the first, as the beams of a search, have the same codes: else the luck of the
/// draw would decide between texts.
void FreeTransformerSession::draw(const at::Tensor& tokens) {
  auto& condition = options_.condition;
  if (condition.defined() && !parts_.has_code_of_each_token) return;
  const auto count = parts_.has_code_of_each_token ? tokens.size(1) : 1;
  if (!tokens_.defined()) first_rows_ = tokens.size(0);
  auto drawn = parts_.draw_condition(first_rows_, count);
  if (origins_.defined()) drawn = drawn.index_select(0, origins_);
  condition = condition.defined() ? at::cat({condition, drawn}, 1) : drawn;
}

at::Tensor FreeTransformerSession::condition_of(int64_t begin, int64_t count) const {
  const auto& condition = options_.condition;
  if (!condition.defined() || condition.size(1) == 1) return condition;
  expect(condition.size(1) >= begin + count, at("latents"), condition.size(1),
         "one for each token, prompt and generated");
  return condition.narrow(1, begin, count);
}

/// The logits after tokens [b, n], which stand at `begin`, and before which the caches have all.
at::Tensor FreeTransformerSession::run(const at::Tensor& tokens, int64_t begin) {
  AttentionLayersInputs inputs;
  inputs.x = parts_.embed(tokens);
  if (parts_.head) {
    inputs.cache = head_cache_ ? &*head_cache_ : nullptr;
    inputs.x = parts_.head->forward(inputs).out;
  }
  inputs.cache = tail_cache_ ? &*tail_cache_ : nullptr;
  if (const auto condition = condition_of(begin, tokens.size(1)); condition.defined())
    inputs.self_attn_kv_residuals = {condition};
  const auto out = parts_.tail->forward(inputs).out;
  return parts_.unembed(out.select(1, out.size(1) - 1)).to(at::kFloat);
}

at::Tensor FreeTransformerSession::append(const at::Tensor& tokens) {
  require(tokens.dim() == 2 && tokens.size(1) > 0 && !tokens.is_floating_point(), at("prompts"),
          "expected tokens [batch, seq] of integers, at least one in each");
  const auto begin = tokens_.defined() ? tokens_.size(1) : 0;
  if (options_.draws) draw(tokens);
  tokens_ = tokens_.defined() ? at::cat({tokens_, tokens}, 1) : tokens;
  if (!can_cache_) return run(tokens_, 0);
  if (!tail_cache_) {
    const auto capacity = tokens.size(1) + options_.expected_tokens;
    if (parts_.head) head_cache_ = parts_.head->make_cache(capacity);
    tail_cache_ = parts_.tail->make_cache(capacity);
  }
  return run(tokens, begin);
}

void FreeTransformerSession::reorder(const at::Tensor& entries) {
  tokens_ = tokens_.index_select(0, entries);
  origins_ = origins_.defined() ? origins_.index_select(0, entries) : entries;
  auto& condition = options_.condition;
  const bool is_of_rows = condition.defined() && (options_.draws || condition.size(0) > 1);
  if (is_of_rows) condition = condition.index_select(0, entries);
  for (auto* cache : {&head_cache_, &tail_cache_})
    if (*cache) (*cache)->reorder(entries);
}

}  // namespace x_transformers
