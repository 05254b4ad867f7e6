// What decoding keeps of earlier tokens. The only thing a caller does with a cache is append new tokens.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <utility>
#include <vector>

namespace x_transformers {

/// Keys and values (or the latents they are made of) of one attention layer, [b, heads, length, d], in buffers that
/// grow by doubling, so that appending a token copies a token.
class KeyValueCache {
 public:
  /// Appends along the sequence dimension and returns everything so far, [b, h, length, d]. Either part may be
  /// undefined throughout. Gradients flow through when they are being recorded.
  std::pair<at::Tensor, at::Tensor> append(const at::Tensor& keys, const at::Tensor& values);
  /// Everything so far.
  std::pair<at::Tensor, at::Tensor> view() const;
  int64_t length() const { return length_; }
  /// Row r continues what was row rows[r]; rows is int64 [new batch].
  void reorder(const at::Tensor& rows);
  /// Room for `capacity` tokens at once, to be set before the first append.
  void reserve(int64_t capacity) { reserved_ = capacity; }
  /// From now on single tokens are written at `position` ([1] int64 on the device, moved on by the caller) and append
  /// returns the whole buffers of `capacity` tokens: shapes and addresses stay the same from token to token, as a CUDA
  /// graph needs.
  void fix(const at::Tensor& position, int64_t capacity);
  /// Undoes fix: the first `length` tokens are what is kept, and later ones are appended to them.
  void release(int64_t length);
  /// Where the next token is written if the buffers are fixed, else undefined.
  const at::Tensor& position() const { return position_; }

  /// The cache of a cross attention: filled once by the context.
  bool is_context = false;

 private:
  void grow(at::Tensor& buffer, const at::Tensor& added, int64_t needed) const;

  at::Tensor keys_, values_, position_;
  int64_t length_ = 0, reserved_ = 0;
};

/// The caches of a stack: one for each attention layer in the order of execution, and how many tokens they cover.
struct LayersCache {
  std::vector<KeyValueCache> attention;
  int64_t length = 0;
  /// Of the first tokens in the cache, how many are memories that have negative positions.
  int64_t memory_length = 0;

  /// With a position ([1] int64 on the device) the buffers are fixed at `capacity` tokens (see KeyValueCache::fix).
  at::Tensor position;
  int64_t capacity = 0;

  void reorder(const at::Tensor& rows);
  /// Fixes all buffers at `capacity` tokens and puts the position at the cache's end. Single tokens can be appended
  /// then; the caller moves the position on after each, by one.
  void fix(int64_t capacity, const at::Device& device);
  /// Undoes fix.
  void release();
};

}  // namespace x_transformers
