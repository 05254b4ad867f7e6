// group_attend on the CPU in float32, group after group. Nothing here records gradients.
#pragma once

#include <ATen/core/Tensor.h>

#include "x_transformers/ops/group_attention_passes.h"

namespace x_transformers {

/// `heads`, `hidden` and `how.bias` are dense. `kept` may be nullptr.
at::Tensor group_attend_forward(const at::Tensor& heads, const at::Tensor& hidden,
                                const GroupAttend& how, GroupKept* kept);
/// `out_grad` is dense.
GroupGradients group_attend_backward(const at::Tensor& heads, const at::Tensor& hidden,
                                     const GroupAttend& how, const GroupKept& kept,
                                     const at::Tensor& out_grad);

}  // namespace x_transformers
