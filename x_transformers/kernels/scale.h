// Parameters of scaling numbers where they are, on CUDA.
#pragma once

#include <cstdint>

#include "x_transformers/kernels/element.h"

namespace x_transformers::kernels {

/// x *= factor, which is on the device. With a factor of 1 nothing is read or written.
struct ScaleInPlace {
  void* x = nullptr;  ///< [count], dense
  Element element = Element::float32;
  int64_t count = 0;
  const float* factor = nullptr;
};

}  // namespace x_transformers::kernels
