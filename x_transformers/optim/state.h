// Reading an optimizer's state back.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>

namespace x_transformers {

/// Copies `state[name]` into `target`. Throws InputError when it is missing or has another shape.
void copy_state(const std::map<std::string, at::Tensor>& state, const std::string& name,
                const at::Tensor& target);

}  // namespace x_transformers
