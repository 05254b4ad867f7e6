// One tensor that decoding keeps for each token.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace x_transformers {

/// The tensors of all tokens so far, [..., length, d], in a buffer that grows by doubling, so that
/// appending a token copies a token.
class TokenBuffer {
 public:
  /// Appends [..., n, d] and returns everything so far. Gradients flow through when they are being
  /// recorded.
  at::Tensor append(const at::Tensor& added);
  /// Everything so far; undefined if nothing was appended.
  at::Tensor view() const;
  /// In a fixed buffer all of it, which append returns; undefined in others.
  at::Tensor fixed() const { return position_.defined() ? buffer_ : at::Tensor(); }
  int64_t length() const { return length_; }
  /// Where the last `count` of the tokens stand in what append returns, int64 [count].
  at::Tensor places(int64_t count) const;
  /// What was appended before the last token, [..., 1, d]; undefined if nothing was.
  at::Tensor last() const;
  /// Batch entry r goes on from what was batch entry entries[r]; entries is int64 [new batch].
  void reorder(const at::Tensor& entries);
  /// Room for `capacity` tokens at once, to be set before the first append.
  void reserve(int64_t capacity) { reserved_ = capacity; }
  /// From now on single tokens are written at `position` - `before` ([1] int64 on the device, moved
  /// on by the caller) and append returns the whole buffer of `capacity` tokens: shapes and
  /// addresses stay the same from token to token, as a CUDA graph needs.
  void fix(const at::Tensor& position, int64_t before, int64_t capacity);
  /// Undoes fix: the first `length` tokens are what is kept, and later ones are appended to them.
  void release(int64_t length);
  /// Whether anything was appended.
  bool defined() const { return buffer_.defined(); }

 private:
  void grow(const at::Tensor& added, int64_t needed);
  at::Tensor place() const { return before_ == 0 ? position_ : position_ - before_; }

  at::Tensor buffer_, position_;
  int64_t length_ = 0, reserved_ = 0, before_ = 0;
};

}  // namespace x_transformers
