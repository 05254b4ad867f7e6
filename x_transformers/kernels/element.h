// The number formats that kernels read and write; all of them compute in float32. The CPU's know
// float32 and bfloat16.
#pragma once

#include <cstdint>

namespace x_transformers::kernels {

enum class Element { float32, bfloat16, float16 };

/// bfloat16 as raw bits (the upper half of a float), so that kernels need no tensor header.
struct BFloat16 {
  uint16_t bits;
};

}  // namespace x_transformers::kernels
