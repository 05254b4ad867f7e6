// The number formats that CPU kernels read and write; all of them compute in float32.
#pragma once

#include <cstdint>

namespace x_transformers::kernels {

enum class Element { float32, bfloat16 };

/// bfloat16 as raw bits (the upper half of a float), so that kernels need no tensor header.
struct BFloat16 {
  uint16_t bits;
};

}  // namespace x_transformers::kernels
