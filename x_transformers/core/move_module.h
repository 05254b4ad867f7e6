// Modules moved to a device and a type.
#pragma once

#include <torch/nn/module.h>

namespace x_transformers {

/// Moves `module` as Python's Module.to does: parameters and buffers of floats take the type,
/// those of integers and bools keep theirs, which torch::nn::Module::to would change too.
void move_module(torch::nn::Module& module, const at::Device& device, at::ScalarType dtype);

}  // namespace x_transformers
