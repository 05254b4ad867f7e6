// Products of matrices by the tensor cores (mma.m16n8k16, sm_80 and newer) on tiles in shared
// memory: rows of kDim 16-bit numbers, whose 16-byte chunks are exchanged within a row so that the
// rows that are read together lie in different banks.
//
// A warp's fragments, with lane = 4 * g + t: a product [16, 8] of float32 is (g, 2t), (g, 2t + 1),
// (g + 8, 2t), (g + 8, 2t + 1); those of two products side by side are, packed, the left factor
// [16, 16] of the next.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "x_transformers/kernels/cuda/device/async_copy.cuh"

namespace x_transformers::kernels::cuda {

constexpr int kChunk = 8;  ///< numbers of a chunk

/// Where a chunk of a row is in its tile.
template <int kDim>
__device__ inline int place_of(int row, int chunk) {
  static_assert(kDim % 64 == 0, "eight chunks are exchanged");
  return row * kDim + ((chunk ^ (row & 7)) * kChunk);
}

/// Begins to copy rows first.. of memory to a tile; rows from `rows` on and features from `dim` on
/// are 0.
template <int kRows, int kDim, int kThreads, class T>
__device__ void copy_tile(T* tile, const T* memory, int64_t stride, int first, int rows, int dim) {
  constexpr int kChunks = kDim / kChunk;
  static_assert(kRows * kChunks % kThreads == 0, "each thread copies as many chunks");
#pragma unroll
  for (int i = 0; i < kRows * kChunks / kThreads; ++i) {
    const int at = i * kThreads + static_cast<int>(threadIdx.x);
    const int row = at / kChunks, chunk = at % kChunks;
    const bool exists = first + row < rows && chunk * kChunk < dim;
    const T* from = exists ? memory + (first + row) * stride + chunk * kChunk : memory;
    copy_chunk(tile + place_of<kDim>(row, chunk), from, exists);
  }
}

__device__ inline void load_matrices(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row)));
}
__device__ inline void load_matrices_transposed(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row)));
}

/// The left factor: rows row.. + 15, features 16 * step.. + 15.
template <int kDim, class T>
__device__ void load_left(uint32_t (&r)[4], const T* tile, int row, int step) {
  const int lane = threadIdx.x % 32;
  load_matrices(r, tile + place_of<kDim>(row + lane % 16, step * 2 + lane / 16));
}
/// Two right factors of a product with the tile transposed: its rows row.. + 15 are columns.
template <int kDim, class T>
__device__ void load_right_of_rows(uint32_t (&r)[4], const T* tile, int row, int step) {
  const int lane = threadIdx.x % 32;
  load_matrices(r, tile + place_of<kDim>(row + lane / 16 * 8 + lane % 8, step * 2 + lane / 8 % 2));
}
/// Two right factors of a product with the tile: rows row.. + 15 are summed over, for the 16
/// features of `step`.
template <int kDim, class T>
__device__ void load_right(uint32_t (&r)[4], const T* tile, int row, int step) {
  const int lane = threadIdx.x % 32;
  load_matrices_transposed(r, tile + place_of<kDim>(row + lane % 16, step * 2 + lane / 16));
}

template <class T>
__device__ void multiply_add(float (&sum)[4], const uint32_t (&left)[4], uint32_t right0,
                             uint32_t right1);
template <>
__device__ inline void multiply_add<__nv_bfloat16>(float (&c)[4], const uint32_t (&a)[4],
                                                   uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
template <>
__device__ inline void multiply_add<__half>(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                            uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

template <class T>
__device__ uint32_t packed(float low, float high);
template <>
__device__ inline uint32_t packed<__nv_bfloat16>(float low, float high) {
  const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&both);
}
template <>
__device__ inline uint32_t packed<__half>(float low, float high) {
  const __half2 both = __floats2half2_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&both);
}

/// A warp's part of a product: 16 * kM rows, 8 * kN columns.
template <int kM, int kN>
using Products = float[kM][kN][4];

template <int kM, int kN>
__device__ void set_to_zero(Products<kM, kN>& products) {
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) products[m][n][i] = 0;
    }
  }
}

/// products = rows `row`.. of `left` times the rows of `right`, transposed.
template <class T, int kDim, int kM, int kN>
__device__ void multiply_by_rows(Products<kM, kN>& products, const T* left, int row,
                                 const T* right) {
  set_to_zero<kM, kN>(products);
#pragma unroll
  for (int step = 0; step < kDim / 16; ++step) {
    uint32_t a[kM][4];
#pragma unroll
    for (int m = 0; m < kM; ++m) load_left<kDim>(a[m], left, row + 16 * m, step);
#pragma unroll
    for (int n = 0; n < kN; n += 2) {
      uint32_t b[4];
      load_right_of_rows<kDim>(b, right, n * 8, step);
#pragma unroll
      for (int m = 0; m < kM; ++m) {
        multiply_add<T>(products[m][n], a[m], b[0], b[1]);
        multiply_add<T>(products[m][n + 1], a[m], b[2], b[3]);
      }
    }
  }
}

/// sums += factors, rounded to T, times the rows of `right`.
template <class T, int kDim, int kM, int kN>
__device__ void add_product(Products<kM, kDim / 8>& sums, const Products<kM, kN>& factors,
                            const T* right) {
#pragma unroll
  for (int step = 0; step < kN / 2; ++step) {
    uint32_t a[kM][4];
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float* pair = factors[m][step * 2 + i / 2] + i % 2 * 2;
        a[m][i] = packed<T>(pair[0], pair[1]);
      }
    }
#pragma unroll
    for (int n = 0; n < kDim / 16; ++n) {
      uint32_t b[4];
      load_right<kDim>(b, right, step * 16, n);
#pragma unroll
      for (int m = 0; m < kM; ++m) {
        multiply_add<T>(sums[m][n * 2], a[m], b[0], b[1]);
        multiply_add<T>(sums[m][n * 2 + 1], a[m], b[2], b[3]);
      }
    }
  }
}

/// Writes a warp's products to the rows `first`.. of memory, by way of its own rows `row`.. of a
/// tile that nobody else reads any more.
template <class T, int kDim, int kM>
__device__ void write_rows(const Products<kM, kDim / 8>& products, T* tile, int row, T* memory,
                           int64_t stride, int first, int rows, int dim) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  __syncwarp();
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int n = 0; n < kDim / 8; ++n) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        T* chunk = tile + place_of<kDim>(row + 16 * m + 8 * half + g, n);
        reinterpret_cast<uint32_t*>(chunk)[t] =
            packed<T>(products[m][n][2 * half], products[m][n][2 * half + 1]);
      }
    }
  }
  __syncwarp();
  constexpr int kChunks = kDim / kChunk;
#pragma unroll
  for (int at = lane; at < 16 * kM * kChunks; at += 32) {
    const int r = at / kChunks, chunk = at % kChunks;
    if (first + r < rows && chunk * kChunk < dim) {
      *reinterpret_cast<uint4*>(memory + (first + r) * stride + chunk * kChunk) =
          *reinterpret_cast<const uint4*>(tile + place_of<kDim>(row + r, chunk));
    }
  }
}

}  // namespace x_transformers::kernels::cuda
