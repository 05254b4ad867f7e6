// What writing asks of a model.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "x_transformers/generation/decoding_session.h"
#include "x_transformers/generation/writer.h"

namespace x_transformers {

/// What is known before a session's first token.
struct SessionRequest {
  int64_t expected_tokens = 0;  ///< after the prompt, if known: caches get room at once
  /// Decode on static caches, on CUDA as a graph; default: where that works.
  std::optional<bool> static_caches = std::nullopt;
  /// Start of the random numbers that the model itself draws, such as codes; default: the device's
  /// own generator.
  std::optional<int64_t> seed = std::nullopt;
};

/// A model that predicts the next token of a sequence.
class TokenWriter : public Writer {
 public:
  /// Tokens of the longest prompt; 0: of any length.
  virtual int64_t max_seq_len() const = 0;
  int64_t longest_prompt() const final { return max_seq_len(); }
  /// The token that stands where there is none.
  virtual int64_t pad_value() const = 0;
  /// A batch of sequences to be continued, for a caller that has the model in evaluation mode and
  /// records no gradients.
  virtual std::unique_ptr<DecodingSession> start_session(const SessionRequest& request) = 0;
};

}  // namespace x_transformers
