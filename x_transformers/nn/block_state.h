// What a block keeps of earlier tokens.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>
#include <utility>

#include "x_transformers/core/filled_keys.h"
#include "x_transformers/core/token_buffer.h"

namespace x_transformers {

/// A static cache: its buffers have `capacity` tokens, of which the first `filled` exist. Each
/// later token is written at `position` ([1] int64 on the device), which moves on after it, so that
/// shapes and addresses stay the same, as a CUDA graph needs.
struct StaticPlace {
  at::Tensor position;
  int64_t filled = 0, capacity = 0;
};

class KeyValueCache;

/// What a caller gives of a block's earlier tokens, as Python keeps it.
struct GivenState {
  at::Tensor keys, values;  ///< [b, heads, length, d], or what the block makes them of
  at::Tensor hidden;        ///< where a recurrent module has come to
};

/// What one block keeps of earlier tokens. A block makes its own (Block::make_state) and alone
/// knows what is in it.
class BlockState {
 public:
  virtual ~BlockState() = default;
  /// Batch entry r goes on from what was batch entry entries[r]; entries is int64 [new batch].
  virtual void reorder(const at::Tensor& entries) = 0;
  /// From now on single tokens follow, written where `place` says.
  virtual void fix(const StaticPlace& place) = 0;
  /// Undoes fix: the first `length` tokens are kept, and later ones are appended to them.
  virtual void release(int64_t length) = 0;
  /// The keys and values in it; null: it has none.
  virtual KeyValueCache* key_values() { return nullptr; }
};

/// Keys and values (or the latents they are made of), [b, heads, length, d].
class KeyValueCache : public BlockState {
 public:
  /// Appends along the sequence dimension and returns everything so far, [b, h, length, d]. Either
  /// part may be undefined throughout.
  std::pair<at::Tensor, at::Tensor> append(const at::Tensor& keys, const at::Tensor& values);
  /// Appends what a caller gives.
  virtual void append_given(const GivenState& given) { append(given.keys, given.values); }
  /// In a cache from outside, what was given, as it was given; kept to be given back.
  GivenState as_given;
  /// Everything so far.
  std::pair<at::Tensor, at::Tensor> view() const { return {keys_.view(), values_.view()}; }
  /// In a static cache what append returns, the next token yet to be written; undefined elsewhere.
  std::pair<at::Tensor, at::Tensor> fixed() const { return {keys_.fixed(), values_.fixed()}; }
  int64_t length() const { return std::max(keys_.length(), values_.length()); }
  /// Room for `capacity` tokens at once, to be set before the first append.
  void reserve(int64_t capacity);
  void reorder(const at::Tensor& entries) override;
  /// A context's keys and values stay as they are.
  void fix(const StaticPlace& place) override;
  void release(int64_t length) override;
  KeyValueCache* key_values() override { return this; }

  /// Where the next token is written in a static cache, else undefined.
  const at::Tensor& position() const { return position_; }
  /// Rows of keys, b * h; 0 before the first append, and of latents.
  int64_t rows() const;
  /// In a static cache: which keys exist once the next token is written. Only of a cache that holds
  /// all keys of the stack, its memories too.
  const FilledKeys& filled_keys() const { return filled_keys_; }
  void set_filled_keys(const FilledKeys& keys) { filled_keys_ = keys; }

  /// Keys and values of a context, which come whole with the first call.
  bool is_context = false;

 private:
  TokenBuffer keys_, values_;
  at::Tensor position_;
  FilledKeys filled_keys_;
};

/// Makes a buffer static at `place`. A buffer without memories is shorter than one with them: it
/// then starts at the first token.
void fix_buffer(TokenBuffer& buffer, const StaticPlace& place);

}  // namespace x_transformers
