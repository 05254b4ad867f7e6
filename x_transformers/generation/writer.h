// What every model that writes says of its tokens.
#pragma once

#include <cstdint>
#include <optional>

#include "x_transformers/core/token_limit.h"

namespace x_transformers {

/// A model that writes: token by token (TokenWriter), whole sequences (SequenceWriter), or what it
/// reads in other words (TranslationWriter).
class Writer {
 public:
  virtual ~Writer() = default;
  /// The tokens that it can read, and those that it has logits for; empty where a module from the
  /// options decides.
  virtual std::optional<TokenLimit> readable_tokens() const = 0;
  virtual std::optional<TokenLimit> written_tokens() const = 0;
  /// Tokens of the longest text that it can be given; 0: of any length.
  virtual int64_t longest_prompt() const = 0;
};

}  // namespace x_transformers
