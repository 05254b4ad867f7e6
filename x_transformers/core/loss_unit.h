// What a model's loss is.
#pragma once

#include <string>

namespace x_transformers {

struct LossUnit {
  /// In words, for pictures and messages; empty: it is not said.
  std::string name = {};
  /// Whether it is the mean of -log p over the tokens and nothing else, the length of a code: by
  /// it, and by the bytes of text that a token stands for, nats become bits per byte.
  bool is_code_length = false;

  bool operator==(const LossUnit&) const = default;
};

/// What the loss is of a model that gives each next token a probability.
inline LossUnit nats_per_token() { return {"nats per token", true}; }

}  // namespace x_transformers
