// group_attend on CUDA: all groups at once by batched products, and kernels of ours between them.
// Nothing here records gradients.
#pragma once

#include <ATen/core/Tensor.h>

#include "x_transformers/ops/engines.h"
#include "x_transformers/ops/group_attention_passes.h"

namespace x_transformers {

/// Why these passes cannot run, apart from what they are given already: whole groups, and neither
/// `mask` nor `counts`.
Reasons group_attend_cuda_reasons(const at::Tensor& heads, const at::Tensor& hidden,
                                  const GroupAttend& how);

at::Tensor group_attend_forward_on_cuda(const at::Tensor& heads, const at::Tensor& hidden,
                                        const GroupAttend& how, GroupKept* kept);
GroupGradients group_attend_backward_on_cuda(const at::Tensor& heads, const at::Tensor& hidden,
                                             const GroupAttend& how, const GroupKept& kept,
                                             const at::Tensor& out_grad);

}  // namespace x_transformers
