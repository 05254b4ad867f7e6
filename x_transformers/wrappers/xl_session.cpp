#include "x_transformers/wrappers/xl_session.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "x_transformers/core/error.h"
#include "x_transformers/models/step_inputs.h"

namespace x_transformers {
namespace {

void require_tokens(const at::Tensor& tokens) {
  require(tokens.dim() == 2 && tokens.size(1) > 0 &&
              at::isIntegralType(tokens.scalar_type(), /*includeBool=*/false),
          at("prompts"), "expected at least one token, as integers [batch, seq]");
}

/// Leaves the tokens in a cache that begins with memories.
void forget_memories(LayersCache& cache) {
  const auto length = cache.length;
  for (auto* cached : cache.key_values()) {
    if (cached->is_context) continue;
    const auto [keys, values] = cached->view();
    const auto last = [&](const at::Tensor& t) {
      return t.defined() ? t.narrow(2, t.size(2) - length, length).clone() : t;
    };
    const auto kept_keys = last(keys), kept_values = last(values);
    *cached = KeyValueCache();
    cached->append(kept_keys, kept_values);
  }
  cache.memory_length = 0;
}

}  // namespace

std::vector<at::Tensor> mems_after(TokenModel& net, TransformerInputs inputs,
                                   const at::Tensor& tokens) {
  inputs.x = tokens;
  inputs.logits = false;
  inputs.keep_hiddens = true;
  return next_mems(net.forward(inputs), net.traits().kept_mems);
}

XLSession::XLSession(std::shared_ptr<TokenModel> net, TransformerInputs inputs,
                     const SessionRequest& request)
    : net_(std::move(net)), inputs_(std::move(inputs)), request_(request) {}

bool XLSession::is_full() const {
  return segment_.defined() && segment_.size(1) == net_->traits().max_seq_len;
}

/// A full segment becomes memory.
void XLSession::remember_segment() {
  inputs_.mems = mems_after(*net_, inputs_, segment_);
  inputs_.mem_masks.clear();
  segment_ = at::Tensor();
  session_.reset();
}

at::Tensor XLSession::append(const at::Tensor& tokens) {
  require_tokens(tokens);
  const auto longest = net_->traits().max_seq_len;
  at::Tensor logits;
  for (int64_t done = 0; done < tokens.size(1);) {
    if (is_full()) remember_segment();
    const auto length = segment_.defined() ? segment_.size(1) : 0;
    const auto count = std::min(longest - length, tokens.size(1) - done);
    const auto piece = tokens.narrow(1, done, count);
    segment_ = length == 0 ? piece : at::cat({segment_, piece}, 1);
    done += count;
    if (is_full() && !session_ && done < tokens.size(1)) continue;  // no token is asked of it
    if (!session_) {
      SessionOptions options;
      options.inputs = inputs_;
      options.expected_length = std::min(request_.expected_tokens, longest - count);
      options.static_caches = request_.static_caches;
      session_ = net_->start_session(std::move(options));
    }
    logits = session_->append(piece);
  }
  return logits;
}

void XLSession::reorder(const at::Tensor& entries) {
  if (session_) session_->reorder(entries);
  if (!segment_.defined()) return;
  reorder_batch(inputs_, entries, segment_.size(0));
  segment_ = segment_.index_select(0, entries);
}

PythonXLSession::PythonXLSession(std::shared_ptr<CachedTokenModel> net, TransformerInputs inputs,
                                 int64_t expected_tokens, bool keeps_cache)
    : net_(std::move(net)),
      inputs_(std::move(inputs)),
      expected_tokens_(expected_tokens),
      keeps_cache_(keeps_cache) {}

bool PythonXLSession::can_decode(const CachedTokenModel& net) {
  return net.cache_unsupported().empty() && net.python_caches_beside_mems();
}

/// One call of the net, beside the cache if there is one.
at::Tensor PythonXLSession::run(const at::Tensor& tokens) {
  auto inputs = inputs_;
  const bool is_first = !cache_;
  if (is_first) cache_ = net_->make_cache(tokens.size(1) + expected_tokens_);
  inputs.x = tokens;
  inputs.cache = &*cache_;
  inputs.keep_hiddens = true;
  const auto output = net_->forward(inputs);
  if (is_first) forget_memories(cache_->layers);
  next_mems_ = next_mems(output, net_->traits().kept_mems);
  return output.logits.at(0).select(1, -1).to(at::kFloat);
}

/// From now on steps see the memories that the last one left.
void PythonXLSession::give_memories() {
  inputs_.mems = next_mems_;
  inputs_.mem_masks.clear();
}

/// The tokens that are decoded first, up to a segment, or one token.
at::Tensor PythonXLSession::step(const at::Tensor& tokens) {
  batch_ = tokens.size(0);
  length_ += tokens.size(1);
  const bool ends_segment = length_ % net_->traits().max_seq_len == 0;
  if (keeps_cache_) {
    auto logits = run(tokens);
    if (!ends_segment) return logits;
    // Positions that are embedded count from the start of the segment.
    cache_->prefix = cache_->layers.length;
    give_memories();
    return logits;
  }
  const bool goes_on = segment_.defined();
  segment_ = goes_on ? at::cat({segment_, tokens}, 1) : tokens;
  if (!ends_segment) return run(tokens);
  if (goes_on) give_memories();
  cache_.reset();
  auto logits = run(segment_);
  give_memories();
  cache_.reset();
  segment_ = at::Tensor();
  return logits;
}

at::Tensor PythonXLSession::append(const at::Tensor& tokens) {
  require_tokens(tokens);
  if (batch_ > 0) {
    at::Tensor logits;
    for (int64_t i = 0; i < tokens.size(1); ++i) logits = step(tokens.narrow(1, i, 1));
    return logits;
  }
  const auto longest = net_->traits().max_seq_len;
  for (; tokens.size(1) - length_ > longest; length_ += longest) {
    next_mems_ = mems_after(*net_, inputs_, tokens.narrow(1, length_, longest));
    give_memories();
  }
  return step(tokens.narrow(1, length_, tokens.size(1) - length_));
}

void PythonXLSession::reorder(const at::Tensor& entries) {
  if (batch_ == 0) return;
  reorder_batch(inputs_, entries, batch_);
  for (auto& mem : next_mems_) mem = mem.index_select(0, entries);
  if (segment_.defined()) segment_ = segment_.index_select(0, entries);
  if (cache_) cache_->reorder(entries);
  batch_ = entries.size(0);
}

}  // namespace x_transformers
