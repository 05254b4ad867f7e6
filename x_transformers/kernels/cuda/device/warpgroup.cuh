// Products by the tensor cores of a warpgroup, which is four warps one behind another (wgmma,
// sm_90a): 64 rows at a time. They read their right factor, and where they are asked to the left
// one, from shared memory, and go on while the threads do other work.
//
// Fragments are those of mma.m16n8k16 (matrix_tile.cuh), of 16 rows for each warp.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define XT_HAS_WARPGROUP_PRODUCTS
#endif

namespace x_transformers::kernels::cuda {

/// The lower half of what names memory to a product: rows of 128 bytes, whose chunks of 16 bytes
/// are exchanged by the last three bits of the row's number.
__device__ inline uint32_t rows_of_128_bytes(uint32_t shared) {
  constexpr uint32_t kUnused = 1 << 16;  // how far from one panel to the next
  return kUnused | ((shared & 0x3ffff) / 16);
}

#ifdef XT_HAS_WARPGROUP_PRODUCTS

/// Before products that read registers or shared memory which this thread has written.
__device__ inline void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void end_products() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/// Makes what this thread has written to shared memory visible to products.
__device__ inline void show_to_products() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

#define XT_FOUR(d, n) "+f"(d[n][0]), "+f"(d[n][1]), "+f"(d[n][2]), "+f"(d[n][3])
#define XT_COLUMNS_64(d)                                                                    \
  XT_FOUR(d, 0), XT_FOUR(d, 1), XT_FOUR(d, 2), XT_FOUR(d, 3), XT_FOUR(d, 4), XT_FOUR(d, 5), \
      XT_FOUR(d, 6), XT_FOUR(d, 7)
#define XT_COLUMNS_64_NAMES                                                                     \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, " \
  "%20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "

/// Of 64 columns and 16 summands: sums = or += left times right, both in rows of shared memory.
template <class T>
__device__ void multiply_rows_64(float (&sums)[8][4], uint32_t left, uint32_t right, bool adds);
/// The same with the left factor's fragments, and a right one whose rows are summed over.
template <class T>
__device__ void multiply_64(float (&sums)[8][4], const uint32_t (&left)[4], uint32_t right);

// The upper half of what names memory: chunks are exchanged, and 1,024 bytes, in units of 16, lead
// from eight rows to the next eight.
#define XT_UPPER_HALF ".reg .b32 upper;\nmov.b32 upper, 0x40000040;\n"

#define XT_PRODUCTS_OF(T, name)                                                                   \
  template <>                                                                                     \
  __device__ inline void multiply_rows_64<T>(float(&d)[8][4], uint32_t left, uint32_t right,      \
                                             bool adds) {                                         \
    asm volatile("{\n.reg .pred adds;\n.reg .b64 left, right;\n" XT_UPPER_HALF                    \
                 "setp.ne.b32 adds, %34, 0;\n"                                                    \
                 "mov.b64 left, {%32, upper};\nmov.b64 right, {%33, upper};\n"                    \
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32." name "." name                      \
                 " " XT_COLUMNS_64_NAMES "left, right, adds, 1, 1, 0, 0;\n}\n"                    \
                 : XT_COLUMNS_64(d)                                                               \
                 : "r"(left), "r"(right), "r"(static_cast<int>(adds)));                           \
  }                                                                                               \
  template <>                                                                                     \
  __device__ inline void multiply_64<T>(float(&d)[8][4], const uint32_t(&a)[4], uint32_t right) { \
    asm volatile("{\n.reg .b64 right;\n" XT_UPPER_HALF                                            \
                 "mov.b64 right, {%36, upper};\n"                                                 \
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32." name "." name                      \
                 " " XT_COLUMNS_64_NAMES "{%32, %33, %34, %35}, right, 1, 1, 1, 1;\n}\n"          \
                 : XT_COLUMNS_64(d)                                                               \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(right));                       \
  }
XT_PRODUCTS_OF(__nv_bfloat16, "bf16")
XT_PRODUCTS_OF(__half, "f16")
#undef XT_PRODUCTS_OF
#undef XT_UPPER_HALF

/// Waits for all groups of products but the last kBut; `sums` are then there.
template <int kBut>
__device__ void wait_for_sums(float (&d)[8][4]) {
  asm volatile("wgmma.wait_group.sync.aligned %32;" : XT_COLUMNS_64(d) : "n"(kBut) : "memory");
}

#undef XT_FOUR
#undef XT_COLUMNS_64
#undef XT_COLUMNS_64_NAMES
#endif

}  // namespace x_transformers::kernels::cuda
