#include "x_transformers/ops/fast_path.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

namespace x_transformers {

bool records_gradient(std::initializer_list<at::Tensor> inputs) {
  if (!at::GradMode::is_enabled()) return false;
  for (const auto& input : inputs) {
    if (input.defined() && input.requires_grad()) return true;
  }
  return false;
}

std::string cpu_kernel_unsupported(const at::Tensor& x, const std::string& name) {
  if (!x.defined()) return name + " is undefined";
  if (!x.device().is_cpu()) return name + " is on " + x.device().str() + ", not on the CPU";
  if (x.scalar_type() != at::kFloat && x.scalar_type() != at::kBFloat16) {
    return name + " is " + std::string(at::toString(x.scalar_type())) + ", not float32 or bfloat16";
  }
  if (x.layout() != at::kStrided || x.is_neg()) return name + " is not a plain strided tensor";
  if (x._fw_grad(0).defined()) return name + " has a forward-mode gradient";
  return {};
}

kernels::Element element_of(const at::Tensor& x) {
  if (x.scalar_type() == at::kFloat) return kernels::Element::float32;
  return x.scalar_type() == at::kHalf ? kernels::Element::float16 : kernels::Element::bfloat16;
}

torch::autograd::variable_list differentiable_gradients(
    const Reference& reference, const torch::autograd::variable_list& inputs,
    const at::Tensor& output_grad) {
  torch::autograd::variable_list views, wanted;
  for (const auto& input : inputs) {
    // One input may be computed from another; views make only the direct dependence count.
    const bool counts = input.defined() && input.requires_grad();
    views.push_back(counts ? input.view_as(input) : input);
    if (counts) wanted.push_back(views.back());
  }
  const auto found = torch::autograd::grad({reference(views)}, wanted, {output_grad},
                                           /*retain_graph=*/true, /*create_graph=*/true);
  torch::autograd::variable_list gradients(inputs.size());
  size_t next = 0;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].defined() && inputs[i].requires_grad()) gradients[i] = found[next++];
  }
  return gradients;
}

}  // namespace x_transformers
