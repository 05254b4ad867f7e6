// What an engine of group_attend that has a backward pass of its own hands from pass to pass.
#pragma once

#include <ATen/core/Tensor.h>

#include "x_transformers/ops/group_attention.h"

namespace x_transformers {

/// What the backward pass needs.
struct GroupKept {
  at::Tensor relus;    ///< [b, n, group]
  at::Tensor weights;  ///< their squares, where they are kept
  at::Tensor mixed;    ///< [b, n, e] before the gates
  at::Tensor sums;  ///< [b, some, d, e] what linear queries are multiplied with; undefined: nothing
};

struct GroupGradients {
  at::Tensor heads, hidden, bias;  ///< bias: undefined where there is none
};

/// The passes of an engine, of which neither records gradients. `kept` may be nullptr.
struct GroupPasses {
  at::Tensor (*forward)(const at::Tensor& heads, const at::Tensor& hidden, const GroupAttend& how,
                        GroupKept* kept);
  GroupGradients (*backward)(const at::Tensor& heads, const at::Tensor& hidden,
                             const GroupAttend& how, const GroupKept& kept,
                             const at::Tensor& out_grad);
};

}  // namespace x_transformers
