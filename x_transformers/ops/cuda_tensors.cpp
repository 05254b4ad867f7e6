#include "x_transformers/ops/cuda_tensors.h"

#include <ATen/ATen.h>

#include <cstdint>
#include <string>

#include "x_transformers/ops/cuda_launchers.h"

namespace x_transformers {

bool is_plain_on_cuda(const at::Tensor& t) {
  const auto type = t.scalar_type();
  return t.is_cuda() && t.layout() == at::kStrided && !t.is_neg() && !t._fw_grad(0).defined() &&
         (type == at::kFloat || type == at::kBFloat16 || type == at::kHalf);
}

bool is_aligned(const at::Tensor& t) {
  constexpr uintptr_t kBytes = 16;
  return reinterpret_cast<uintptr_t>(t.const_data_ptr()) % kBytes == 0;
}

Reasons cuda_kernel_reasons(const at::Tensor& x, const char* name) {
  if (!x.is_cuda()) return Reasons(std::string(name) + " is not on a CUDA device");
  Reasons reasons(our_cuda_kernels().reason.line());
  if (!is_plain_on_cuda(x))
    reasons.add(std::string(name) + " is not a plain tensor of float32, bfloat16 or float16");
  return reasons;
}

void add_unlike(Reasons& reasons, const at::Tensor& x, const at::Tensor& other, const char* name) {
  if (!other.defined()) return;
  if (other.device() != x.device() || !is_plain_on_cuda(other))
    reasons.add(std::string(name) + " is not a plain tensor on the same device");
  if (other.scalar_type() != x.scalar_type()) reasons.add(std::string(name) + " has another dtype");
}

}  // namespace x_transformers
