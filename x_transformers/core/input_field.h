// What is known of one input of a call (core/inputs.h).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include "x_transformers/core/tensor_check.h"

namespace x_transformers {

/// What the entries along one dimension of an input stand for.
enum class Axis : uint8_t {
  batch,
  tokens,     ///< of the call; with a cache the new tokens
  outputs,    ///< tokens and the embeddings prepended to them: what has logits
  keys,       ///< of self-attention: tokens, cached ones too, and memories
  context,    ///< tokens of the context
  kv_tokens,  ///< tokens that keys and values are made of
  memory,     ///< tokens of Transformer-XL memory
  prepended,  ///< embeddings in front of the tokens
  added_keys,
  heads,
  depth,
  dim,
  dim_kv,  ///< what keys and values are made of
  dim_context,
  dim_condition,
  dim_head,
  emb_dim,
  other,
};
inline constexpr size_t kAxes = static_cast<size_t>(Axis::other) + 1;

/// A dimension of an input. A single batch entry is broadcast.
struct InputAxis {
  Axis axis = Axis::other;
  bool or_one = false;       ///< a single entry is broadcast
  bool is_optional = false;  ///< may be left out
  bool is_free = false;      ///< of any size, which others are held to

  constexpr InputAxis() = default;
  constexpr InputAxis(Axis a) : axis(a), or_one(a == Axis::batch) {}  // NOLINT: the usual case
};
constexpr InputAxis or_one(InputAxis axis) {
  axis.or_one = true;
  return axis;
}
constexpr InputAxis optional(InputAxis axis) {
  axis.is_optional = true;
  return axis;
}
constexpr InputAxis any_size(InputAxis axis) {
  axis.is_free = true;
  return axis;
}

/// The dimensions of an input, four at most.
class InputAxes {
 public:
  constexpr InputAxes() = default;
  constexpr InputAxes(std::initializer_list<InputAxis> axes) {
    for (const auto& axis : axes) items_[size_++] = axis;
  }
  constexpr size_t size() const { return size_; }
  constexpr const InputAxis& operator[](size_t i) const { return items_[i]; }
  constexpr const InputAxis* begin() const { return items_.data(); }
  constexpr const InputAxis* end() const { return items_.data() + size_; }

 private:
  std::array<InputAxis, 4> items_ = {};
  size_t size_ = 0;
};

/// How a tensor's shape is held against its axes.
enum class Fit : uint8_t {
  exact,
  broadcast,  ///< the first dimensions may be left out, and any may be one
  by_rule,    ///< only the type is checked; code beside the struct looks at the shape
};

/// What an input means to a call that goes on from a cache.
enum class BesideCache : uint8_t {
  kept,   ///< the same for each call
  first,  ///< enters with the first call: the cache holds it afterwards
  cut,    ///< an entry for each token: a call takes those of its own
  grown,  ///< a mask of the tokens that exist, with one more `true` for each generated one
  held,   ///< such a mask, which the cache keeps from the first call on
  whole,  ///< relates tokens to each other: decoding runs whole sequences
};

/// Who reads inputs.
enum class Reader : uint8_t {
  self_attention,
  cross_attention,
  feed_forward,
  positions,  ///< layers that take positions from outside
  angles,     ///< layers that take rotary angles from outside
};
inline constexpr size_t kReaders = static_cast<size_t>(Reader::angles) + 1;

/// Some of the readers.
class Readers {
 public:
  constexpr Readers() = default;
  constexpr Readers(std::initializer_list<Reader> readers) {
    for (const auto reader : readers) bits_ |= bit(reader);
  }
  constexpr bool has(Reader reader) const { return bits_ & bit(reader); }
  constexpr bool empty() const { return bits_ == 0; }
  constexpr bool operator==(const Readers&) const = default;

 private:
  static constexpr uint32_t bit(Reader reader) { return 1U << static_cast<uint32_t>(reader); }
  uint32_t bits_ = 0;
};

/// What is known of one input beside its name.
struct InputField {
  TensorKind kind = TensorKind::any;
  InputAxes axes = {};
  Fit fit = Fit::exact;
  BesideCache beside_cache = BesideCache::kept;
  Readers read_by = {};       ///< none: the struct's own module
  bool is_silent = false;     ///< models give it to any stack: dropped without a warning
  bool is_per_layer = false;  ///< a list with one for each of the first of `read_by`
  bool is_stacked = false;  ///< such a list is one tensor in files, layers first, or for one layer
  bool is_looked_up = false;   ///< in files a table and ids [batch, seq] of its rows
  bool has_more_axes = false;  ///< further dimensions may follow
  bool in_documents = false;   ///< may come where rows hold several documents: of each token alone
  /// What reads it cannot be called without; also what says which entries of such an input exist.
  bool is_needed = false;
  /// Why prompts of different lengths cannot be padded at the left beside it; null: they can.
  const char* beside_padding = nullptr;
};

}  // namespace x_transformers
