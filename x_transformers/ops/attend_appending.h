// Attention of one query on a static cache whose own key and value are yet to be written into it,
// by one kernel, which also normalises and rotates them and the query.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "x_transformers/ops/attend.h"
#include "x_transformers/ops/rotary.h"

namespace x_transformers {

/// Keys and values that stand before those of the cache and are not in it. Every query sees them,
/// and of a program's stages the softclamp alone is for them.
struct KeysInFront {
  at::Tensor k, v;        ///< dense [kv_heads, m, d], older than q; or undefined. k is not rotated
  bool has_zero = false;  ///< one more, a key of zeros with a value of zeros
};

/// The key and value of the query's own token, and what is yet to be done to the query and the key
/// (the first two also to keys in front), in this order.
struct NewestKey {
  at::Tensor k, v;                        ///< [b, kv_heads, 1, d]
  bool normalises = false;                ///< l2norm of each head
  at::Tensor q_scale, k_scale;            ///< [heads, 1, d], [kv_heads, 1, d] then; or undefined
  const RotaryTable* rotation = nullptr;  ///< its last position; null: none
  KeysInFront front = {};
};

/// attend(q, k, v, program) for a program whose mask is CachedKeys, whether or not it also holds
/// the matrix, once `newest` is written into k and v where the last of those keys belongs, with
/// `newest.front` before them, which the program does not count. No value, and nothing done, where
/// no kernel of ours can. What the cache holds besides must have been written before q and `newest`
/// were begun.
std::optional<AttendResult> attend_appending(const at::Tensor& q, const at::Tensor& k,
                                             const at::Tensor& v, const NewestKey& newest,
                                             const ScoreProgram& program);

/// Why it cannot; empty: it can.
Reasons attend_appending_reasons(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                 const NewestKey& newest, const ScoreProgram& program);

}  // namespace x_transformers
