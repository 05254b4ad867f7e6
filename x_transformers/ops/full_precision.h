// Random numbers need more than 16 bits.
#pragma once

#include <ATen/core/Tensor.h>

namespace x_transformers {

/// Numbers of 16 bits as float32, others as they are. Noise of 16 bits has so few levels that many
/// tokens share the highest, and then the first of them is drawn, each time; and what is rarer than
/// the lowest level never comes.
at::Tensor in_full_precision(const at::Tensor& values);

}  // namespace x_transformers
