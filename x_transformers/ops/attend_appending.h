// Attention of one query on a static cache whose own key and value are yet to be written into it,
// by one kernel, which also normalises and rotates them and the query.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "x_transformers/ops/attend.h"
#include "x_transformers/ops/rotary.h"

namespace x_transformers {

/// The key and value of the query's own token, and what is yet to be done to the query and the key,
/// in this order.
struct NewestKey {
  at::Tensor k, v;                        ///< [b, kv_heads, 1, d]
  bool normalises = false;                ///< l2norm of each head
  at::Tensor q_scale, k_scale;            ///< [heads, 1, d], [kv_heads, 1, d] then; or undefined
  const RotaryTable* rotation = nullptr;  ///< its last position; null: none
};

/// attend(q, k, v, program) for a program that masks with FilledKeys alone, once `newest` is
/// written into k and v where the last of those keys belongs. No value, and nothing done, where no
/// kernel of ours can. What the cache holds besides must have been written before q and `newest`
/// were begun.
std::optional<AttendResult> attend_appending(const at::Tensor& q, const at::Tensor& k,
                                             const at::Tensor& v, const NewestKey& newest,
                                             const ScoreProgram& program);

/// Why it cannot; empty: it can.
Reasons attend_appending_reasons(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                 const NewestKey& newest, const ScoreProgram& program);

}  // namespace x_transformers
