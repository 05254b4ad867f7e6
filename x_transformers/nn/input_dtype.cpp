#include "x_transformers/nn/input_dtype.h"

#include "x_transformers/core/error.h"
#include "x_transformers/core/tensor_check.h"

namespace x_transformers {

// Without a list of all parameters. Quantized weights are bytes.
at::Tensor first_weight(const torch::nn::Module& module) {
  for (const auto& parameter : module.named_parameters(/*recurse=*/false)) {
    const auto& found = parameter.value();
    if (found.defined() && found.is_floating_point()) return found;
  }
  for (const auto& child : module.children()) {
    if (auto found = first_weight(*child); found.defined()) return found;
  }
  return {};
}

void require_dtype_of(const torch::nn::Module& module, const at::Tensor& t, const char* name) {
  const auto weight = first_weight(module);
  if (!weight.defined() || weight.scalar_type() == t.scalar_type()) return;
  expect(false, at(name), shown(t), "{}, as the weights are", at::toString(weight.scalar_type()));
}

void require_dtype_of(const torch::nn::Module& module, const at::Tensor& first_weight,
                      const at::Tensor& t, const char* name) {
  if (first_weight.defined() && first_weight.scalar_type() == t.scalar_type()) return;
  require_dtype_of(module, t, name);  // weights may have become quantized ones
}

}  // namespace x_transformers
