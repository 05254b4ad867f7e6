// Scratch memory of a thread.
#pragma once

#include <cstdint>
#include <vector>

namespace x_transformers::kernels {

/// At least `floats` floats of this thread, aligned to 64 bytes, kept from call to call: fresh
/// memory would cost more (page faults) than many a kernel. One block for each type Use; it is
/// valid until the next call with the same Use.
template <class Use>
float* thread_scratch(int64_t floats) {
  thread_local std::vector<float> memory;
  constexpr int64_t kAlignment = 16;
  if (static_cast<int64_t>(memory.size()) < floats + kAlignment) memory.resize(floats + kAlignment);
  const auto address = reinterpret_cast<uintptr_t>(memory.data());
  return memory.data() + (64 - address % 64) % 64 / sizeof(float);
}

}  // namespace x_transformers::kernels
