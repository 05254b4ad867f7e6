// What a stack keeps of earlier tokens: a state for each of its blocks, and how many tokens they
// cover.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "x_transformers/core/filled_keys.h"
#include "x_transformers/nn/block_state.h"
#include "x_transformers/nn/positions/rotary.h"

namespace x_transformers {

/// The cache of a stack.
struct LayersCache {
  /// What each layer keeps, in the order of execution; null: nothing.
  std::vector<std::unique_ptr<BlockState>> layers;
  /// Tokens that it covers, without memories.
  int64_t length = 0;
  /// Memories in front of the tokens, at negative positions.
  int64_t memory_length = 0;
  RotaryState rotary;
  /// Of a static cache: where the next token is written (StaticPlace), else undefined.
  at::Tensor position;
  at::Tensor key_indices;  ///< of a static cache: 0 to capacity - 1, int64
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
