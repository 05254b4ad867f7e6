// What decoding keeps of earlier tokens. The only thing a caller does with a cache is append new
// tokens.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "x_transformers/core/token_buffer.h"

namespace x_transformers {

/// How many keys of a fixed buffer [b, h, capacity, d] exist, as kernels for sequences of different
/// lengths want it: each of its b * h rows is a sequence that one query follows. int32, on the
/// device; all undefined: there is no such buffer.
struct FilledKeys {
  at::Tensor count;         ///< [b * h] keys that exist, the query's own among them
  at::Tensor key_starts;    ///< [b * h + 1] 0, capacity, 2 capacity ...
  at::Tensor query_starts;  ///< [b * h + 1] 0, 1, 2 ...
  int64_t capacity = 0;

  bool defined() const { return count.defined(); }
  /// The first `rows` rows.
  FilledKeys first(int64_t rows) const;
};

/// What one attention layer keeps: keys and values (or the latents they are made of), [b, heads,
/// length, d], and what some options need besides.
class KeyValueCache {
 public:
  /// Appends along the sequence dimension and returns everything so far, [b, h, length, d]. Either
  /// part may be undefined throughout.
  std::pair<at::Tensor, at::Tensor> append(const at::Tensor& keys, const at::Tensor& values);
  /// Everything so far.
  std::pair<at::Tensor, at::Tensor> view() const { return {keys_.view(), values_.view()}; }
  int64_t length() const { return std::max(keys_.length(), values_.length()); }
  /// Row r continues what was row rows[r]; rows is int64 [new batch].
  void reorder(const at::Tensor& rows);
  /// Room for `capacity` tokens at once, to be set before the first append.
  void reserve(int64_t capacity);
  /// From now on the `filled` tokens so far are followed by single ones, written at `position`, and
  /// append returns the whole buffers of `capacity` tokens (see TokenBuffer::fix). A context's keys
  /// and values stay as they are.
  void fix(const at::Tensor& position, int64_t filled, int64_t capacity);
  /// Undoes fix: the first `length` tokens are what is kept, and later ones are appended to them.
  void release(int64_t length);
  /// Where the next token is written if the buffers are fixed, else undefined.
  const at::Tensor& position() const { return position_; }
  /// Rows of keys, b * h; 0 before the first append, and of latents.
  int64_t rows() const;
  /// Which keys exist once the next token is written, if the buffers are fixed and hold every token
  /// of the stack's cache: one without its memories has fewer.
  const FilledKeys& filled_keys() const { return filled_keys_; }
  void set_filled_keys(const FilledKeys& keys) { filled_keys_ = keys; }

  /// The cache of a cross attention: filled once by the context.
  bool is_context = false;
  TokenBuffer gates;  ///< of data-dependent ALiBi: sums of forget gates, or what they are made of;
                      ///< no memories
  TokenBuffer hybrid_inputs;  ///< what a hybrid module has been given
  at::Tensor
      hybrid_hidden;  ///< in its place, in a cache from outside: where the module has come to

 private:
  TokenBuffer keys_, values_;
  at::Tensor position_;
  FilledKeys filled_keys_;
};

/// The features of the last tokens, which token shift puts into later ones.
class ShiftCache {
 public:
  /// The `count` tokens before `x` [..., n, d] (zeros where there were none) and x, [..., count +
  /// n, d]; keeps the last `count` of them.
  at::Tensor extend(const at::Tensor& x, int64_t count);
  void reorder(const at::Tensor& rows);
  /// While fixed, what is kept stays at one address.
  void fix();
  void release() { is_fixed_ = false; }

 private:
  at::Tensor last_;
  bool is_fixed_ = false;
};

/// The caches of a stack: one for each attention layer in the order of execution, and how many
/// tokens they cover.
struct LayersCache {
  std::vector<KeyValueCache> attention;
  std::vector<ShiftCache> shifts;  ///< one for each layer in the order of execution
  int64_t length = 0;
  /// Of the first tokens in the cache, how many are memories that have negative positions.
  int64_t memory_length = 0;

  /// The position whose keys and queries xpos leaves as long as they are.
  double xpos_center = 0;

  /// With a position ([1] int64 on the device) the buffers are fixed at `capacity` tokens (see
  /// KeyValueCache::fix).
  at::Tensor position;
  int64_t capacity = 0;

  void reorder(const at::Tensor& rows);
  /// Fixes all buffers at `capacity` tokens and puts the position at the cache's end. Single tokens
  /// can be appended then; the caller calls advance() after each.
  void fix(int64_t capacity, const at::Device& device);
  /// Moves the position on by one token: work on the device alone, so that a graph can hold it.
  void advance();
  /// Undoes fix.
  void release();

 private:
  FilledKeys filled_keys_;
};

}  // namespace x_transformers
