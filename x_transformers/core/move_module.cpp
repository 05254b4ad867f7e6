#include "x_transformers/core/move_module.h"

#include <ATen/ATen.h>

#include <utility>
#include <vector>

namespace x_transformers {

void move_module(torch::nn::Module& module, const at::Device& device, at::ScalarType dtype) {
  std::vector<std::pair<at::Tensor, at::Tensor>> kept;  // a buffer, and what it holds
  for (const auto& buffer : module.buffers()) {
    if (!buffer.is_floating_point()) kept.emplace_back(buffer, buffer.detach().clone());
  }
  module.to(device, dtype);
  for (auto& [buffer, values] : kept) buffer.set_data(values.to(device));
}

}  // namespace x_transformers
