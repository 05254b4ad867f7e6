// What writing asks of a model that makes whole sequences, in any order.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

#include "x_transformers/generation/writer.h"

namespace x_transformers {

/// How a sequence is drawn.
struct SequenceRequest {
  double temperature = 1.0;  ///< of the first step; it falls to 0 with the last
  /// Draw each token from this many; default: what the model does. 1 for the most probable.
  std::optional<int64_t> top_k = std::nullopt;
  std::optional<int64_t> seed = std::nullopt;
  /// Tokens from here on are not drawn: a model may have more than its tokenizer.
  std::optional<int64_t> tokens = std::nullopt;
};

/// A model that fills a sequence.
class SequenceWriter : public Writer {
 public:
  /// Tokens of every sequence.
  virtual int64_t sequence_length() const = 0;
  int64_t longest_prompt() const final { return sequence_length(); }
  /// Sequences [b, sequence_length] that begin with `prompts` [b, m] int64, m <= sequence_length.
  virtual at::Tensor write(const at::Tensor& prompts, const SequenceRequest& request) = 0;
};

}  // namespace x_transformers
