// Short names for torch's linear layers and for modules that only carry a name.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/linear.h>

#include <memory>

namespace x_transformers {

inline torch::nn::Linear linear_no_bias(int64_t dim_in, int64_t dim_out) {
  return torch::nn::Linear(torch::nn::LinearOptions(dim_in, dim_out).bias(false));
}

/// Sets weight and bias to zero.
inline void zero_init(const torch::nn::Linear& layer) {
  torch::NoGradGuard no_grad;
  layer->weight.zero_();
  if (layer->bias.defined()) layer->bias.zero_();
}

/// A module without behaviour: a part of the dotted names of a state_dict, like Python's ModuleList.
inline std::shared_ptr<torch::nn::Module> make_scope() { return std::make_shared<torch::nn::Module>(); }

}  // namespace x_transformers
