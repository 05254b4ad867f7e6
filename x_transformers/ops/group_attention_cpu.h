// group_attend on the CPU in float32, group after group. Nothing here records gradients.
#pragma once

#include <ATen/core/Tensor.h>

#include "x_transformers/ops/group_attention.h"

namespace x_transformers {

/// What the backward pass needs.
struct GroupKept {
  at::Tensor relus;  ///< [b, n, group]
  at::Tensor mixed;  ///< [b, n, e] before the gates
  at::Tensor sums;  ///< [b, some, d, e] what linear queries are multiplied with; undefined: nothing
};

struct GroupGradients {
  at::Tensor heads, hidden, bias;  ///< bias: undefined where there is none
};

/// `heads`, `hidden` and `how.bias` are dense. `kept` may be nullptr.
at::Tensor group_attend_forward(const at::Tensor& heads, const at::Tensor& hidden,
                                const GroupAttend& how, GroupKept* kept);
/// `out_grad` is dense.
GroupGradients group_attend_backward(const at::Tensor& heads, const at::Tensor& hidden,
                                     const GroupAttend& how, const GroupKept& kept,
                                     const at::Tensor& out_grad);

}  // namespace x_transformers
