// Decoding with a token model: caches where they give the uncached result, whole windows
// where not.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "x_transformers/generation/decoding_session.h"
#include "x_transformers/models/cached_token_model.h"
#include "x_transformers/models/decoding_step.h"
#include "x_transformers/models/token_inputs.h"

namespace x_transformers {

/// The logits that follow, token by token. Beyond max_seq_len a sliding window changes what earlier
/// tokens saw, so each step runs the whole window: the result equals that without caches.
class TransformerSession : public DecodingSession {
 public:
  TransformerSession(std::shared_ptr<CachedTokenModel> net, SessionOptions options);
  TransformerSession(const TransformerSession&) = delete;
  TransformerSession& operator=(const TransformerSession&) = delete;
  at::Tensor append(const at::Tensor& tokens) override;
  at::Tensor append_and_choose(const at::Tensor& tokens,
                               const std::shared_ptr<const TokenChoice>& choice) override;
  void reorder(const at::Tensor& entries) override;

 private:
  using Choice = std::shared_ptr<const TokenChoice>;
  at::Tensor run(const at::Tensor& tokens, TransformerCache* cache);
  TransformerInputs inputs_of_step(const at::Tensor& tokens, bool goes_on) const;
  at::Tensor advance(const at::Tensor& tokens, const Choice& choice);
  at::Tensor append_to_cache(const at::Tensor& tokens, const Choice& choice);
  const at::Tensor& all_tokens();
  bool fits_static_caches(const at::Tensor& tokens) const;

  std::shared_ptr<CachedTokenModel> net_;
  TokenModelTraits traits_;
  SessionOptions options_;
  bool can_cache_;
  std::optional<TokenLimit> embedded_;  // where the model may write tokens that it cannot embed
  std::optional<bool> can_fix_ = std::nullopt;  // found out when the first single token comes
  std::optional<TransformerCache> cache_ = std::nullopt;
  std::unique_ptr<DecodingStep> step_ = nullptr;  // after the cache that it holds fixed
  Choice step_choice_ = nullptr;                  // what the step chooses by; null: it gives logits
  std::vector<at::Tensor> pieces_;  // [b, n] all tokens so far, joined when they are needed
  int64_t length_ = 0;              // of all
  int64_t prompt_ = 0;              // tokens of the first step
};

}  // namespace x_transformers
