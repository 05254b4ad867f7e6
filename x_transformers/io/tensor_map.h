// Named tensors: the form in which weights, optimizer states and interchange files are read and
// written.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>

namespace x_transformers {

/// Tensors by name, in the order of the names.
using TensorMap = std::map<std::string, at::Tensor>;

}  // namespace x_transformers
