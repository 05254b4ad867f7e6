// The gradient of a bias of distances: the gradients of scores summed along diagonals, in an order
// that does not depend on chance.
//
// A warp has 16 queries and goes over its keys from left to right, 64 at a time. It writes its tile
// to shared memory, each row further left by its number, so that a diagonal is a column, and sums
// the columns; the warps of a block, 16 queries apart each, are joined in shared memory; what a
// block has of each diagonal goes to its row of `partial`, and a last kernel sums blocks and batch.
#pragma once

#include "x_transformers/kernels/cuda/flash_stages.cuh"

namespace x_transformers::kernels::cuda {

constexpr int kPartialRows = 64, kPartialColumns = 64;  ///< queries of a block, keys of a tile

/// Room for a block's diagonals: number key - query + kPartialRows, with the block's own number of
/// a query.
__host__ __device__ inline int64_t partial_length(const FlashAttention& p) {
  return (p.keys + kPartialColumns - 1) / kPartialColumns * kPartialColumns + 2 * kPartialRows;
}

template <int kWarps, int kN>
class DistanceSums {
  static constexpr int kColumns = 8 * kN, kRows = 16 * kWarps, kThreads = 32 * kWarps;
  static constexpr int kOwn = kColumns + 16;  ///< diagonals of a warp's tile; the first is empty
  static constexpr int kWidth = kOwn + kRows - 16;  ///< of all warps
  static constexpr int kRing = 256;
  static_assert(kWidth <= kRing && kRing % kColumns == 0, "a tile's diagonals fit");
  /// From one row of shared memory to the next: what is written together is in different banks, but
  /// for two and two.
  static constexpr int kStride = 89;
  static_assert(kStride >= kOwn);

 public:
  static constexpr int kFloats = 2 * kWarps * kOwn + kRing + kWarps * 8 * kStride;

  __device__ explicit DistanceSums(float* room) : of_warps_(room), ring_(room + 2 * kWarps * kOwn) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    rows_ = ring_ + kRing + warp * 8 * kStride;
    g_ = lane / 4;
    t_ = lane % 4;
  }

  /// `partial`: where the first diagonal of the block's first tile goes. Seen by all threads after
  /// the next barrier.
  __device__ void begin(float* partial) {
    partial_ = partial;
    for (int i = threadIdx.x; i < kRing; i += kThreads) ring_[i] = 0;
    for (int i = threadIdx.x % 32; i < 8 * kStride; i += 32) rows_[i] = 0;
  }

  /// The warp's gradients of a tile's scores; keys before `front` have no bias.
  __device__ void add(const Products<kN>& s, int key, int64_t front) {
    // Blocks of 8 x 8 on one diagonal of blocks, together.
    float blocks[kN + 1][2] = {};
    const int unbiased = key >= front ? 0 : static_cast<int>(front) - key;
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          if (8 * n + 2 * t_ + e >= unbiased) blocks[n - half + 1][e] += s[n][2 * half + e];
        }
      }
    }
    // Number column - row + 16.
    float* const row = rows_ + g_ * kStride + 8 - g_ + 2 * t_;
    __syncwarp();  // the columns of the tile before have been read
#pragma unroll
    for (int u = 0; u < kN + 1; ++u) {
      row[8 * u] = blocks[u][0];
      row[8 * u + 1] = blocks[u][1];
    }
    __syncwarp();
    const int lane = threadIdx.x % 32;
    float* const to = of_warps_ + (tile_put_ % 2 * kWarps + threadIdx.x / 32) * kOwn;
#pragma unroll
    for (int part = 0; part < (kOwn + 31) / 32; ++part) {
      const int column = part * 32 + lane;
      if (column >= kOwn) break;
      float sum = 0;
#pragma unroll
      for (int g = 0; g < 8; ++g) sum += rows_[g * kStride + column];
      to[column] = sum;
    }
    ++tile_put_;
  }

  /// Joins what the warps have put; behind a barrier after add().
  __device__ void join_warps() { join(kColumns); }

  __device__ void finish(bool has_tiles) {
    if (!has_tiles) return;
    __syncthreads();
    join(kWidth);
  }

 private:
  /// Adds the warps' diagonals of a tile to the ring; the first `done` are complete.
  __device__ void join(int done) {
    const float* from = of_warps_ + tile_joined_ % 2 * kWarps * kOwn;
    for (int y = threadIdx.x; y < kWidth; y += kThreads) {
      float sum = 0;
#pragma unroll
      for (int w = 0; w < kWarps; ++w) {
        const int own = y - 16 * (kWarps - 1 - w);
        if (own >= 0 && own < kOwn) sum += from[w * kOwn + own];
      }
      float& so_far = ring_[(tile_joined_ * kColumns + y) % kRing];
      sum += so_far;
      so_far = y < done ? 0.0f : sum;
      if (y < done) partial_[tile_joined_ * kColumns + y] = sum;
    }
    ++tile_joined_;
  }

  float *of_warps_, *ring_, *rows_, *partial_ = nullptr;
  int g_, t_, tile_put_ = 0, tile_joined_ = 0;
};

}  // namespace x_transformers::kernels::cuda
