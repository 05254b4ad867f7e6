// Gated attention of groups of tokens to themselves, and linear attention beyond the groups, with
// gates on the output (Transformer Quality in Linear Time, arXiv:2202.10447): what FLASH, and in
// one group GAU, do between their projections.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "x_transformers/ops/engines.h"
#include "x_transformers/ops/gated_attention.h"

namespace x_transformers {

/// Which tokens linear attention reads.
enum class LinearReach { none, earlier_groups, own_group, all };

struct GroupAttend {
  int64_t group_size = 256;
  GatedAttnFn fn = GatedAttnFn::relu_squared;
  bool causal = false;  ///< within a group
  double scale = 1.0;   ///< of the products of queries and keys
  at::Tensor bias;      ///< [2 group_size - 1]: entry group_size - 1 + d is added to the scores of
                        ///< keys d tokens after the query; undefined: none
  double bias_scale = 1.0;
  double dropout = 0.0;  ///< of the weights, as in training
  LinearReach linear = LinearReach::none;
  double linear_scale = 1.0;
  at::Tensor mask;    ///< [b or 1, n], keys; undefined: all
  at::Tensor counts;  ///< [b or 1], undefined: none. Divides what linear attention gives, or, where
                      ///< there is none, the scores with their bias
};

/// heads [2 or, with linear attention, 4, b, n, d]: queries and keys; or queries, those of linear
/// attention, keys, those of linear attention. hidden [b, n, 2 e]: values, gates. Returns
/// [b, n, e]: gates * (fn(scale * q k^T + bias_scale * bias) v + linear_scale * q' sum(k'^T v)).
/// Throws InputError for shapes that do not fit.
at::Tensor group_attend(const at::Tensor& heads, const at::Tensor& hidden, const GroupAttend& how);

/// The same, by the engine of this name. Throws InputError with the reasons where it cannot run.
at::Tensor group_attend_on(const std::string& engine, const at::Tensor& heads,
                           const at::Tensor& hidden, const GroupAttend& how);

/// The engines in order of preference, each with its reasons against.
std::vector<EngineReport> explain_group_attend(const at::Tensor& heads, const at::Tensor& hidden,
                                               const GroupAttend& how);

}  // namespace x_transformers
