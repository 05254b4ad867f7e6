// Numbers of a call that must be finite.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

namespace x_transformers {

/// Throws InputError that names the tensor and the first of its numbers that is NaN or infinite; an
/// undefined tensor and integers pass. Reads the numbers, which stops a GPU.
void require_finite(const at::Tensor& t, const std::string& name);

}  // namespace x_transformers
