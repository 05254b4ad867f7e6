// Decoding with a TransformerWrapper: caches where they give the uncached result, whole windows where not.
#pragma once

#include <optional>

#include "x_transformers/generation/decoding_session.h"
#include "x_transformers/models/transformer_wrapper.h"

namespace x_transformers {

struct SessionOptions {
  bool cache_kv = true;                 ///< use caches (where the model can)
  bool restrict_to_max_seq_len = true;  ///< beyond max_seq_len tokens see only the last max_seq_len
  at::Tensor seq_start_pos;             ///< [b] int64: prompts are padded at the left up to here
  TransformerInputs inputs;             ///< context, prepended embeddings and the like; x and cache are the session's
  int64_t expected_length = 0;          ///< tokens that will be decoded, if known: caches are made for them at once
};

/// The logits that follow, token by token. Beyond max_seq_len a sliding window changes what earlier tokens saw, so each
/// step runs the whole window: the result equals that without caches.
class TransformerSession : public DecodingSession {
 public:
  TransformerSession(TransformerWrapper net, SessionOptions options);
  at::Tensor append(const at::Tensor& tokens) override;
  void reorder(const at::Tensor& rows) override;

 private:
  at::Tensor run(const at::Tensor& tokens, TransformerCache* cache);

  TransformerWrapper net_;
  SessionOptions options_;
  bool can_cache_;
  std::optional<TransformerCache> cache_ = std::nullopt;
  at::Tensor tokens_;  // [b, length] all so far
};

}  // namespace x_transformers
