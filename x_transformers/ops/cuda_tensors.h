// Which tensors our CUDA kernels read and write.
#pragma once

#include <ATen/core/Tensor.h>

#include "x_transformers/ops/engines.h"

namespace x_transformers {

/// Whether `t` is a plain tensor of float32, bfloat16 or float16 on a CUDA device.
bool is_plain_on_cuda(const at::Tensor& t);

/// Whether the memory of `t` begins at a multiple of 16 bytes, of which kernels read at once.
bool is_aligned(const at::Tensor& t);

/// Why our CUDA kernels cannot run for x, called `name`: there are none, or x is not for them.
Reasons cuda_kernel_reasons(const at::Tensor& x, const char* name);

/// Adds that `other`, unless undefined, is not beside x and of its type.
void add_unlike(Reasons& reasons, const at::Tensor& x, const at::Tensor& other, const char* name);

}  // namespace x_transformers
