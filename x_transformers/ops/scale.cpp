#include "x_transformers/ops/scale.h"

#include <ATen/ATen.h>

#include "x_transformers/ops/cuda_launchers.h"
#include "x_transformers/ops/cuda_tensors.h"
#include "x_transformers/ops/fast_path.h"

namespace x_transformers {

at::Tensor scaled_in_place(const at::Tensor& x, const at::Tensor& factor) {
  const at::NoGradGuard no_grad;
  const bool is_ours = cuda_kernel_reasons(x, "x").empty() && x.is_contiguous() &&
                       factor.device() == x.device() && factor.numel() == 1;
  if (!is_ours) return x.mul_(factor.to(x.scalar_type()));
  const auto number = factor.to(at::kFloat);
  kernels::ScaleInPlace params;
  params.x = x.mutable_data_ptr();
  params.element = element_of(x);
  params.count = x.numel();
  params.factor = number.const_data_ptr<float>();
  our_cuda_kernels().launchers->scale_in_place(params, x.device().index());
  return x;
}

}  // namespace x_transformers
