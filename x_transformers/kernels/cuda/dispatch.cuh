// From what is known when a kernel is launched to template arguments.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "x_transformers/kernels/element.h"

namespace x_transformers::kernels::cuda {

/// body(T{}) with the type of the numbers.
template <class Body>
void with_element(Element element, const Body& body) {
  switch (element) {
    case Element::float32:
      return body(float{});
    case Element::bfloat16:
      return body(__nv_bfloat16{});
    case Element::float16:
      return body(__half{});
  }
}

/// Whether 16 bytes can be read at once.
inline bool is_aligned(const void* memory) { return reinterpret_cast<uintptr_t>(memory) % 16 == 0; }

}  // namespace x_transformers::kernels::cuda
