// What decoding keeps of earlier tokens: a state for each block of a stack, and how many tokens
// they cover.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "x_transformers/core/token_buffer.h"

namespace x_transformers {

/// How many keys of a static cache [b, h, capacity, d] exist, as kernels for sequences of different
/// lengths want it: each of its b * h rows is a sequence that one query follows. int32, on the
/// device; all undefined: the cache is not static.
struct FilledKeys {
  at::Tensor count;         ///< [b * h] keys that exist, the query's own among them
  at::Tensor key_starts;    ///< [b * h + 1] 0, capacity, 2 capacity ...
  at::Tensor query_starts;  ///< [b * h + 1] 0, 1, 2 ...
  int64_t capacity = 0;

  bool defined() const { return count.defined(); }
  /// The first `rows` rows.
  FilledKeys first(int64_t rows) const;
};

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

/// The cache of a stack.
struct LayersCache {
  /// What each layer keeps, in the order of execution; null: nothing.
  std::vector<std::unique_ptr<BlockState>> layers;
  /// Tokens that it covers, without memories.
  int64_t length = 0;
  /// Memories in front of the tokens, at negative positions.
  int64_t memory_length = 0;
  /// The position at which xpos scales keys and queries by 1.
  double xpos_center = 0;
  /// Of a static cache: where the next token is written (StaticPlace), else undefined.
  at::Tensor position;
  /// Of a static cache: tokens, memories among them, that its buffers have room for, else 0.
  int64_t capacity = 0;

  /// The keys and values of the layers that have some, in the order of execution.
  std::vector<KeyValueCache*> key_values() const;
  void reorder(const at::Tensor& entries);
  /// Makes the cache static, with room for `capacity` tokens, and puts the position at its end.
  /// Single tokens can be appended then; the caller calls advance() after each.
  void fix(int64_t capacity, const at::Device& device);
  /// Moves the position on by one token: work on the device alone, so that a graph can hold it.
  void advance();
  /// Undoes fix.
  void release();

 private:
  FilledKeys filled_keys_;
};

}  // namespace x_transformers
