#include "x_transformers/ops/few_rows_cuda.h"

#include <ATen/ATen.h>

#include "x_transformers/ops/cuda_launchers.h"
#include "x_transformers/ops/cuda_tensors.h"
#include "x_transformers/ops/fast_path.h"

namespace x_transformers {

Reasons few_rows_cuda_reasons(const at::Tensor& x, const at::Tensor& weight,
                              const at::Tensor& bias) {
  constexpr int64_t kVectorBytes = 16;
  auto reasons = cuda_kernel_reasons(x, "x");
  if (!x.is_cuda()) return reasons;
  add_unlike(reasons, x, weight, "weight");
  add_unlike(reasons, x, bias, "bias");
  reasons.add_if(records_gradient({x, weight, bias}), "gradients are recorded");
  if (x.dim() < 1 || weight.dim() != 2 || x.size(-1) != weight.size(1) || x.size(-1) == 0) {
    reasons.add("the sizes do not fit");
    return reasons;
  }
  reasons.add_if(x.numel() > kernels::kMostFewCudaRows * x.size(-1), "more than a few rows");
  const auto is_aligned = [](const at::Tensor& t) {
    return reinterpret_cast<uintptr_t>(t.const_data_ptr()) % kVectorBytes == 0;
  };
  reasons.add_if(x.size(-1) * x.element_size() % kVectorBytes != 0 || !weight.is_contiguous() ||
                     !is_aligned(weight) || (bias.defined() && !bias.is_contiguous()),
                 "weight or bias are not dense vectors of 16 bytes");
  return reasons;
}

std::vector<at::Tensor> few_rows_cuda(const at::Tensor& x, const std::vector<at::Tensor>& weights,
                                      const std::vector<at::Tensor>& biases) {
  auto dense = x.contiguous();
  if (reinterpret_cast<uintptr_t>(dense.const_data_ptr()) % 16 != 0) dense = dense.clone();
  kernels::FewRowsOfLayers params;
  params.x = dense.const_data_ptr();
  params.element = element_of(dense);
  params.dim = dense.size(-1);
  params.rows = dense.numel() / params.dim;
  params.count = static_cast<int>(weights.size());
  std::vector<at::Tensor> outs;
  for (size_t i = 0; i < weights.size(); ++i) {
    auto sizes = x.sizes().vec();
    sizes.back() = weights[i].size(0);
    outs.push_back(at::empty(sizes, x.options()));
    auto& layer = params.layers[i];
    layer.weight = weights[i].const_data_ptr();
    if (!biases.empty() && biases[i].defined()) layer.bias = biases[i].const_data_ptr();
    layer.out = outs.back().mutable_data_ptr();
    layer.dim_out = weights[i].size(0);
  }
  our_cuda_kernels().launchers->linear_few_rows(params, x.device().index());
  return outs;
}

}  // namespace x_transformers
