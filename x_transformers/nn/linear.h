// Linear layers, and modules that only carry a name.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

#include <memory>

#include "x_transformers/ops/linear.h"

namespace x_transformers {

/// torch's linear layer (weight [dim_out, dim_in], bias [dim_out]), computed by ops/linear.h.
class LinearImpl : public torch::nn::LinearImpl {
 public:
  using torch::nn::LinearImpl::LinearImpl;

  /// [..., dim_in] -> [..., dim_out]
  at::Tensor forward(const at::Tensor& x) { return linear(x, weight, bias); }
};
TORCH_MODULE(Linear);

inline Linear linear_no_bias(int64_t dim_in, int64_t dim_out) {
  return Linear(torch::nn::LinearOptions(dim_in, dim_out).bias(false));
}

/// Sets weight and bias to zero.
inline void zero_init(const Linear& layer) {
  torch::NoGradGuard no_grad;
  layer->weight.zero_();
  if (layer->bias.defined()) layer->bias.zero_();
}

/// A module without behaviour: a part of the dotted names of a state_dict, like Python's
/// ModuleList.
inline std::shared_ptr<torch::nn::Module> make_scope() {
  return std::make_shared<torch::nn::Module>();
}

}  // namespace x_transformers
