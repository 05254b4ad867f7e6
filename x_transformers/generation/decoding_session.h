// The interface between decoding loops and models.
#pragma once

#include <ATen/core/Tensor.h>

namespace x_transformers {

/// One batch of sequences being decoded by one model. The session owns caches, lengths and
/// positions.
class DecodingSession {
 public:
  virtual ~DecodingSession() = default;
  /// Appends tokens [batch, new] to every sequence and returns the logits that follow the last one,
  /// [batch, vocab] float32.
  virtual at::Tensor append(const at::Tensor& tokens) = 0;
  /// Batch entry i goes on from what was entry `entries[i]` ([new_batch] int64): beams are copied,
  /// reordered and dropped with this.
  virtual void reorder(const at::Tensor& entries) = 0;
};

}  // namespace x_transformers
