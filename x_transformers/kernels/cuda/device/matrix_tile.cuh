// Products of matrices by the tensor cores on tiles in shared memory: by wgmma where the code is
// for sm_90a (four warps together, while the threads go on), by mma.m16n8k16 elsewhere (sm_80 and
// newer).
//
// A tile has panels of 64 features, one behind another: rows of 128 bytes, whose 16-byte chunks are
// exchanged within a row, as wgmma wants it and so that the rows that mma reads together lie in
// different banks. It begins at a multiple of 1,024 bytes.
//
// A warp's fragments, with lane = 4 * g + t: a product [16, 8] of float32 is (g, 2t), (g, 2t + 1),
// (g + 8, 2t), (g + 8, 2t + 1); those of two products side by side are, packed, the left factor
// [16, 16] of the next.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "x_transformers/kernels/cuda/device/async_copy.cuh"
#include "x_transformers/kernels/cuda/device/warpgroup.cuh"

namespace x_transformers::kernels::cuda {

constexpr int kChunk = 8;  ///< numbers of a chunk

template <class T, int kRowsOf, int kDimOf>
struct Tile {
  using Number = T;
  static constexpr int kRows = kRowsOf, kDim = kDimOf, kNumbers = kRows * kDim;
  static_assert(kDim % 64 == 0 && kRows % 8 == 0, "panels of 64 features, eight rows exchanged");
  T* numbers;

  __device__ static int offset(int row, int chunk) {
    return (chunk / 8 * kRows + row) * 64 + ((chunk ^ row) & 7) * kChunk;
  }
  __device__ T* chunk(int row, int chunk) const { return numbers + offset(row, chunk); }
  /// For wgmma: rows row.. (a multiple of 8) of the panel that feature 16 * step is in, from that
  /// feature on.
  __device__ uint32_t rows_from(int row, int step) const {
    return rows_of_128_bytes(shared_address(numbers)) +
           ((step / 4 * kRows + row) * 128 + step % 4 * 32) / 16;
  }
};

/// Copies rows first.. of memory to one tile after another; rows from `rows` on and features from
/// `dim` on are 0. Each thread has some chunks of all tiles.
template <int kThreads, class Tile>
class TileCopies {
  using T = typename Tile::Number;
  static constexpr int kChunks = Tile::kDim / kChunk, kRowsAtOnce = kThreads / kChunks;
  static_assert(kRowsAtOnce % 8 == 0 && Tile::kRows % kRowsAtOnce == 0,
                "a thread's chunks are exchanged alike");

 public:
  __device__ TileCopies(const T* memory, int64_t stride, int first, int rows, int dim)
      : stride_(stride), place_(Tile::offset(own_row(), own_chunk())) {
    from_ = memory + (first + own_row()) * stride + own_chunk() * kChunk;
    rows_left_ = own_chunk() * kChunk < dim ? rows - first - own_row() : 0;
  }

  /// Begins to copy the next rows.
  __device__ void begin(const Tile& tile) {
#pragma unroll
    for (int i = 0; i < Tile::kRows / kRowsAtOnce; ++i) {
      copy_chunk(tile.numbers + place_ + i * kRowsAtOnce * 64, from_ + i * kRowsAtOnce * stride_,
                 i * kRowsAtOnce < rows_left_);
    }
    from_ += Tile::kRows * stride_;
    rows_left_ -= Tile::kRows;
  }

 private:
  __device__ static int own_row() { return static_cast<int>(threadIdx.x) / kChunks; }
  __device__ static int own_chunk() { return static_cast<int>(threadIdx.x) % kChunks; }

  const T* from_;
  int64_t stride_;
  int place_, rows_left_;
};

template <int kThreads, class Tile>
__device__ void copy_tile(const Tile& tile, const typename Tile::Number* memory, int64_t stride,
                          int first, int rows, int dim) {
  TileCopies<kThreads, Tile>(memory, stride, first, rows, dim).begin(tile);
}

/// Waits for all that this thread has begun to copy; a barrier then shows tiles to all threads.
__device__ inline void wait_for_tiles() {
  wait_for_copies();
#ifdef XT_HAS_WARPGROUP_PRODUCTS
  show_to_products();
#endif
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
template <class Tile>
__device__ void load_left(uint32_t (&r)[4], const Tile& tile, int row, int step) {
  const int lane = threadIdx.x % 32;
  load_matrices(r, tile.chunk(row + lane % 16, step * 2 + lane / 16));
}
/// Two right factors of a product with the tile transposed: its rows row.. + 15 are columns.
template <class Tile>
__device__ void load_right_of_rows(uint32_t (&r)[4], const Tile& tile, int row, int step) {
  const int lane = threadIdx.x % 32;
  load_matrices(r, tile.chunk(row + lane / 16 * 8 + lane % 8, step * 2 + lane / 8 % 2));
}
/// Two right factors of a product with the tile: rows row.. + 15 are summed over, for the 16
/// features of `step`.
template <class Tile>
__device__ void load_right(uint32_t (&r)[4], const Tile& tile, int row, int step) {
  const int lane = threadIdx.x % 32;
  load_matrices_transposed(r, tile.chunk(row + lane % 16, step * 2 + lane / 16));
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

/// A warp's part of a product: 16 rows, 8 * kN columns.
template <int kN>
using Products = float[kN][4];

/// So many warps, which have rows one behind another, multiply together: all of them or none.
#ifdef XT_HAS_WARPGROUP_PRODUCTS
constexpr int kWarpsTogether = 4;
#else
constexpr int kWarpsTogether = 1;
#endif

template <int kN>
__device__ void set_to_zero(Products<kN>& products) {
#pragma unroll
  for (int n = 0; n < kN; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) products[n][i] = 0;
  }
}

/// Columns 64 * panel.. of products.
template <int kN>
__device__ float (&panel_of(Products<kN>& products, int panel))[8][4] {
  return *reinterpret_cast<float(*)[8][4]>(&products[8 * panel]);
}

/// Waits for what begin_.. has begun, but for the last kBut of them; `products` are then there.
template <int kBut, int kN>
__device__ void wait_for_products(Products<kN>& products) {
#ifdef XT_HAS_WARPGROUP_PRODUCTS
#pragma unroll
  for (int panel = 0; panel < kN / 8; ++panel) wait_for_sums<kBut>(panel_of(products, panel));
#endif
}

/// Begins products = rows of `left`, of which the warp's own are row.. + 15, times the rows of
/// `right`, transposed.
template <int kN, class Left, class Right>
__device__ void begin_multiply_by_rows(Products<kN>& products, const Left& left, int row,
                                       const Right& right) {
  static_assert(Right::kRows == 8 * kN && Left::kDim == Right::kDim);
  using T = typename Left::Number;
#ifdef XT_HAS_WARPGROUP_PRODUCTS
  static_assert(kN == 8, "products of 64 columns");
  begin_products();
#pragma unroll
  for (int step = 0; step < Left::kDim / 16; ++step)
    multiply_rows_64<T>(products, left.rows_from(row / 64 * 64, step), right.rows_from(0, step),
                        step > 0);
  end_products();
#else
  set_to_zero<kN>(products);
#pragma unroll
  for (int step = 0; step < Left::kDim / 16; ++step) {
    uint32_t a[4];
    load_left(a, left, row, step);
#pragma unroll
    for (int n = 0; n < kN; n += 2) {
      uint32_t b[4];
      load_right_of_rows(b, right, n * 8, step);
      multiply_add<T>(products[n], a, b[0], b[1]);
      multiply_add<T>(products[n + 1], a, b[2], b[3]);
    }
  }
#endif
}

/// Products as left factors: rounded to a type of 16 bits, and packed.
template <int kN>
using Factors = uint32_t[kN / 2][4];

template <class T, int kN>
__device__ void pack(Factors<kN>& factors, const Products<kN>& products) {
#pragma unroll
  for (int step = 0; step < kN / 2; ++step) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float* pair = products[step * 2 + i / 2] + i % 2 * 2;
      factors[step][i] = packed<T>(pair[0], pair[1]);
    }
  }
}

/// Begins sums += factors times the rows of `right`. The factors stay as they are until it is done.
template <int kN, class Right>
__device__ void begin_add_product(Products<Right::kDim / 8>& sums, const Factors<kN>& factors,
                                  const Right& right) {
  static_assert(Right::kRows == 8 * kN);
  using T = typename Right::Number;
#ifdef XT_HAS_WARPGROUP_PRODUCTS
  begin_products();
#pragma unroll
  for (int step = 0; step < kN / 2; ++step) {
#pragma unroll
    for (int panel = 0; panel < Right::kDim / 64; ++panel)
      multiply_64<T>(panel_of(sums, panel), factors[step], right.rows_from(step * 16, panel * 4));
  }
  end_products();
#else
#pragma unroll
  for (int step = 0; step < kN / 2; ++step) {
#pragma unroll
    for (int n = 0; n < Right::kDim / 16; ++n) {
      uint32_t b[4];
      load_right(b, right, step * 16, n);
      multiply_add<T>(sums[n * 2], factors[step], b[0], b[1]);
      multiply_add<T>(sums[n * 2 + 1], factors[step], b[2], b[3]);
    }
  }
#endif
}

/// Keeps factors where they are up to here, behind the wait for what reads them.
template <int kN>
__device__ void keep_until_here(Factors<kN>& factors) {
#ifdef XT_HAS_WARPGROUP_PRODUCTS
#pragma unroll
  for (int step = 0; step < kN / 2; ++step) {
    asm volatile(""
                 : "+r"(factors[step][0]), "+r"(factors[step][1]), "+r"(factors[step][2]),
                   "+r"(factors[step][3])::"memory");
  }
#endif
}

/// Writes a warp's products to the rows `first`.. of memory, by way of its own rows `row`.. of a
/// tile that nobody else reads any more.
template <class Tile, int kN>
__device__ void write_rows(const Products<kN>& products, const Tile& tile, int row,
                           typename Tile::Number* memory, int64_t stride, int first, int rows,
                           int dim) {
  using T = typename Tile::Number;
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  __syncwarp();
#pragma unroll
  for (int n = 0; n < kN; ++n) {
#pragma unroll
    for (int half = 0; half < 2; ++half)
      reinterpret_cast<uint32_t*>(tile.chunk(row + 8 * half + g, n))[t] =
          packed<T>(products[n][2 * half], products[n][2 * half + 1]);
  }
  __syncwarp();
#pragma unroll
  for (int at = lane; at < 16 * kN; at += 32) {
    const int r = at / kN, chunk = at % kN;
    if (first + r < rows && chunk * kChunk < dim) {
      *reinterpret_cast<uint4*>(memory + (first + r) * stride + chunk * kChunk) =
          *reinterpret_cast<const uint4*>(tile.chunk(row + r, chunk));
    }
  }
}

}  // namespace x_transformers::kernels::cuda
