// Copies from memory to shared memory that go on while the thread does other work (sm_80 and
// newer).
#pragma once

#include <cstdint>

namespace x_transformers::kernels::cuda {

__device__ inline uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

/// Begins to copy 16 bytes, or reads nothing and writes zeros.
__device__ inline void copy_chunk(void* to, const void* from, bool exists) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
               "r"(exists ? 16 : 0));
}
/// Begins to copy 4 or 8 bytes, or writes zeros.
template <int kBytes>
__device__ void copy_bytes(void* to, const void* from, bool exists) {
  static_assert(kBytes == 4 || kBytes == 8);
  asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(to)), "l"(from),
               "n"(kBytes), "r"(exists ? kBytes : 0));
}
/// Begins to copy a float, or writes 0.
__device__ inline void copy_float(float* to, const float* from, bool exists) {
  copy_bytes<sizeof(float)>(to, from, exists);
}
/// Ends a group of copies.
__device__ inline void end_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Waits for the groups of this thread, but for the last `kBut`.
template <int kBut>
__device__ void wait_for_copies_but() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kBut) : "memory");
}
/// Waits for all that this thread has begun to copy.
__device__ inline void wait_for_copies() {
  asm volatile("cp.async.commit_group;\ncp.async.wait_group 0;" ::: "memory");
}

}  // namespace x_transformers::kernels::cuda
