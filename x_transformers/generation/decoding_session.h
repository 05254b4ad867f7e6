// The interface between decoding loops and models.
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <optional>

namespace x_transformers {

/// How the next tokens, [batch] int64, are made of logits [batch, vocab] of any floating type. It
/// is work on the device alone, with the same memory from token to token, so that a session may
/// capture it: what it does on the host is then done once.
struct TokenChoice {
  std::function<at::Tensor(const at::Tensor& logits)> choose;
  std::optional<at::Generator> generator = std::nullopt;  ///< whose random numbers it takes
};

/// One batch of sequences being decoded by one model. The session owns caches, lengths and
/// positions.
class DecodingSession {
 public:
  virtual ~DecodingSession() = default;
  /// Appends tokens [batch, new] to every sequence and returns the logits that follow the last one,
  /// [batch, vocab] float32.
  virtual at::Tensor append(const at::Tensor& tokens) = 0;
  /// The tokens [batch] that `choice` makes of what append(tokens) returns, in whatever floating
  /// type the logits have.
  virtual at::Tensor append_and_choose(const at::Tensor& tokens,
                                       const std::shared_ptr<const TokenChoice>& choice) {
    return choice->choose(append(tokens));
  }
  /// Batch entry i goes on from what was entry `entries[i]` ([new_batch] int64): beams are copied,
  /// reordered and dropped with this.
  virtual void reorder(const at::Tensor& entries) = 0;
};

}  // namespace x_transformers
