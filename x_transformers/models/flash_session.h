// Decoding with a FLASHTransformer: by a state where that gives the uncached result, else by whole
// sequences.
#pragma once

#include <memory>
#include <optional>

#include "x_transformers/generation/decoding_session.h"
#include "x_transformers/models/flash_transformer.h"
#include "x_transformers/models/transformer_session.h"

namespace x_transformers {

/// The logits that follow, token by token. With layers of FLASH a token costs the same however
/// long the text is. Of the options, static_caches has no effect: the host counts tokens.
class FLASHSession : public DecodingSession {
 public:
  FLASHSession(FLASHTransformer net, SessionOptions options);
  at::Tensor append(const at::Tensor& tokens) override;
  void reorder(const at::Tensor& rows) override;

 private:
  at::Tensor mask_of(int64_t begin, int64_t end) const;

  FLASHTransformer net_;
  SessionOptions options_;
  std::optional<TransformerCache> cache_ = std::nullopt;
  at::Tensor tokens_;   // [b, length] all so far, where there is no cache
  int64_t length_ = 0;  // tokens so far
};

}  // namespace x_transformers
