#include "x_transformers/models/flash_session.h"

#include <ATen/ATen.h>

#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/models/step_inputs.h"

namespace x_transformers {

FLASHSession::FLASHSession(FLASHTransformer net, SessionOptions options)
    : net_(std::move(net)), options_(std::move(options)) {
  if (options_.cache_kv && net_->cache_unsupported().empty())
    cache_ = net_->make_cache(options_.expected_length);
}

/// The mask of tokens `begin` to end - 1: what was generated after those of the given one exists.
at::Tensor FLASHSession::mask_of(int64_t begin, int64_t end) const {
  const auto& given = options_.inputs.mask;
  const auto first = options_.first_token;
  if (!given.defined() || given.size(1) <= first + begin) return {};
  const auto missing = std::max<int64_t>(first + end - given.size(1), 0);
  return at::constant_pad_nd(given, {0, missing}, 1).narrow(1, first + begin, end - begin);
}

at::Tensor FLASHSession::append(const at::Tensor& tokens) {
  require(tokens.dim() == 2 && !tokens.is_floating_point(), at("prompts"),
          "expected tokens [batch, seq] of integers");
  require(tokens.size(1) > 0, at("prompts"), "expected at least one token");
  const auto begin = cache_ ? length_ : 0;
  if (!cache_) tokens_ = tokens_.defined() ? at::cat({tokens_, tokens}, 1) : tokens;
  length_ += tokens.size(1);
  auto inputs = options_.inputs;
  inputs.x = cache_ ? tokens : tokens_;
  inputs.mask = mask_of(begin, length_);
  inputs.cache = cache_ ? &*cache_ : nullptr;
  inputs.logits = false;
  const auto embeddings = net_->forward(inputs).embeddings;
  // Only the last position goes through the head.
  const auto last = embeddings.narrow(1, embeddings.size(1) - 1, 1);
  if (options_.embeddings) return last.select(1, 0);
  return net_->head(last).select(1, 0).to(at::kFloat);
}

void FLASHSession::reorder(const at::Tensor& rows) {
  if (cache_) cache_->reorder(rows);
  if (tokens_.defined()) tokens_ = tokens_.index_select(0, rows);
  auto& mask = options_.inputs.mask;
  if (mask.defined() && mask.size(0) > 1) mask = mask.index_select(0, rows);
}

}  // namespace x_transformers
