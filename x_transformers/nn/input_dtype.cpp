#include "x_transformers/nn/input_dtype.h"

#include "x_transformers/core/error.h"
#include "x_transformers/core/tensor_check.h"

namespace x_transformers {
namespace {

/// The first parameter of floats, without a list of them all: this is asked in every call.
/// Quantized weights are bytes.
at::Tensor first_parameter(const torch::nn::Module& module) {
  for (const auto& parameter : module.named_parameters(/*recurse=*/false)) {
    const auto& found = parameter.value();
    if (found.defined() && found.is_floating_point()) return found;
  }
  for (const auto& child : module.children()) {
    if (auto found = first_parameter(*child); found.defined()) return found;
  }
  return {};
}

}  // namespace

void require_dtype_of(const torch::nn::Module& module, const at::Tensor& t, const char* name) {
  const auto weight = first_parameter(module);
  if (!weight.defined() || weight.scalar_type() == t.scalar_type()) return;
  expect(false, at(name), shown(t), "{}, as the weights are", at::toString(weight.scalar_type()));
}

}  // namespace x_transformers
