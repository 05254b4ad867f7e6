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

/// Writes `newest` into k and v, as the last of the keys that the program's CachedKeys count, and
/// then computes attend(q, k, v, program). The program masks by CachedKeys; it may hold the same
/// mask as a matrix too. It does not count the keys of `newest.front`, which stand in front.
/// Returns no value, and has changed nothing, where no kernel of ours can do this. The rest of the
/// cache must have been written before the work on q and `newest` was queued.
std::optional<AttendResult> attend_appending(const at::Tensor& q, const at::Tensor& k,
                                             const at::Tensor& v, const NewestKey& newest,
                                             const ScoreProgram& program);

/// Why attend_appending returns no value; empty: it returns one.
Reasons attend_appending_reasons(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                 const NewestKey& newest, const ScoreProgram& program);

}  // namespace x_transformers
