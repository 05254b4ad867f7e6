// Decoding with a model over embeddings of its own: caches where they give the uncached result,
// whole windows where not.
#pragma once

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "x_transformers/core/error.h"
#include "x_transformers/models/decoding_step.h"
#include "x_transformers/models/step_inputs.h"

namespace x_transformers {

/// How a sequence is decoded.
struct EmbeddedSessionOptions {
  bool cache_kv = true;         ///< use caches (where the model can)
  int64_t expected_length = 0;  ///< tokens that will be decoded, if known
  /// Once a prompt has been read, fix the caches where single tokens follow: on CUDA a step is then
  /// a graph.
  bool static_caches = false;
};

/// A batch of sequences that a `Net`, a SequenceNet, continues. Beyond max_seq_len a sliding window
/// changes what earlier tokens saw, so each step runs the whole window: the result equals that
/// without caches. Of a step on static caches comes what decoding reads (Output::decoded).
template <class Net>
class EmbeddedSession {
 public:
  using Inputs = typename Net::Inputs;
  using Output = typename Net::Output;

  /// `inputs` are given to each step; tokens and cache are the session's.
  EmbeddedSession(std::shared_ptr<Net> net, Inputs inputs, const EmbeddedSessionOptions& options)
      : net_(std::move(net)),
        inputs_(std::move(inputs)),
        options_(options),
        can_cache_(options.cache_kv && net_->cache_unsupported(inputs_).empty()),
        can_fix_(options_.static_caches && !varies_by_step(inputs_) &&
                 net_->static_cache_unsupported().empty()) {}
  EmbeddedSession(const EmbeddedSession&) = delete;
  EmbeddedSession& operator=(const EmbeddedSession&) = delete;

  /// Appends tokens, each tensor [batch, new, ...] as Inputs::set_tokens takes them. Returns what
  /// the model computes of these or of more; the last entry follows the last token.
  Output append(const std::vector<at::Tensor>& tokens) {
    require(tokens.at(0).dim() >= 2 && tokens[0].size(1) > 0, at("start_tokens"),
            "expected at least one token in each sequence");
    if (tokens_.empty()) prompt_ = tokens[0].size(1);
    const auto before = length();
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (before == 0) tokens_.push_back(tokens[i]);
      if (before > 0) tokens_[i] = at::cat({tokens_[i], tokens[i]}, 1);
    }
    const auto window = net_->max_seq_len();
    if (window > 0 && length() > window) {
      step_.reset();
      cache_.reset();
      return run(window, nullptr);
    }
    if (!can_cache_) return run(length(), nullptr);
    if (!cache_) {
      cache_ = net_->make_cache(length() + options_.expected_length);
      return run(length(), &*cache_);
    }
    const auto added = length() - before;
    // Fixed caches are written in place, which autograd does not allow.
    if (can_fix_ && added == 1 && !at::GradMode::is_enabled()) return run_fixed(tokens);
    step_.reset();
    return run(added, &*cache_);
  }

 private:
  int64_t length() const { return tokens_.empty() ? 0 : tokens_[0].size(1); }

  /// The session's inputs for a call with the last `count` tokens: new ones, if it goes on from a
  /// cache.
  Inputs inputs_of_step(int64_t count, bool goes_on) const {
    TokenSpan span;
    span.count = count;
    span.begin = length() - count;
    span.window = goes_on ? 0 : span.begin;
    span.prompt = prompt_;
    span.prefix = net_->memory_tokens();
    if (inputs_.prepend_embeds.defined()) span.prefix += inputs_.prepend_embeds.size(1);
    span.has_prefix = !goes_on;
    auto inputs = step_inputs(inputs_, span);
    if (goes_on) drop_cached(inputs);
    return inputs;
  }

  Output run(int64_t count, TransformerCache* cache) {
    std::vector<at::Tensor> last;
    for (const auto& t : tokens_) last.push_back(t.narrow(1, length() - count, count));
    return run(last, cache);
  }

  Output run(const std::vector<at::Tensor>& tokens, TransformerCache* cache) {
    auto inputs = inputs_of_step(tokens.at(0).size(1), cache && cache->layers.length > 0);
    inputs.set_tokens(tokens);
    inputs.cache = cache;
    return net_->forward(inputs);
  }

  /// One token more, on static caches.
  Output run_fixed(const std::vector<at::Tensor>& token) {
    if (!step_) {
      step_ = std::make_unique<DecodingStep>(token.at(0).device(), cache_->layers,
                                             DecodingStepOptions{options_.expected_length},
                                             [this](const DecodingStep::Tensors& given) {
                                               auto output = run(given, &*cache_);
                                               DecodingStep::Tensors decoded;
                                               for (const auto* each : output.decoded())
                                                 decoded.push_back(*each);
                                               return decoded;
                                             });
    }
    const auto decoded = (*step_)(token);
    Output output;
    size_t next = 0;
    for (auto* each : output.decoded()) *each = decoded.at(next++);
    return output;
  }

  std::shared_ptr<Net> net_;
  Inputs inputs_;
  EmbeddedSessionOptions options_;
  bool can_cache_, can_fix_;
  std::optional<TransformerCache> cache_ = std::nullopt;
  std::unique_ptr<DecodingStep> step_ = nullptr;  // after the cache that it holds fixed
  std::vector<at::Tensor> tokens_;                // all so far
  int64_t prompt_ = 0;                            // tokens of the first step
};

}  // namespace x_transformers
