// The gradient of a bias of distances: the gradients of scores summed along diagonals, in an order
// that does not depend on chance.
//
// A warp has 16 queries and goes over its keys from left to right, 64 at a time. The sum of a
// diagonal of its tile is made within the warp; eight warps, 16 queries apart each, are joined in
// shared memory; what a block has of each diagonal goes to its row of `partial`, and a last kernel
// sums blocks and batch.
#pragma once

#include "x_transformers/kernels/cuda/flash_stages.cuh"

namespace x_transformers::kernels::cuda {

constexpr int kPartialRows = 128, kPartialColumns = 64;  ///< queries of a block, keys of a tile

/// Room for a block's diagonals: number key - query + kPartialRows, with the block's own number of
/// a query.
__host__ __device__ inline int64_t partial_length(const FlashAttention& p) {
  return (p.keys + kPartialColumns - 1) / kPartialColumns * kPartialColumns + 2 * kPartialRows;
}

template <int kWarps, int kN>
class DistanceSums {
  static constexpr int kColumns = 8 * kN, kRows = 16 * kWarps, kThreads = 32 * kWarps;
  static constexpr int kWidth = kColumns + kRows - 16;  ///< diagonals of a tile, of all warps
  static constexpr int kRing = 256;
  static_assert(kN == 8, "a thread keeps the sums of two diagonals");
  static_assert(kWidth <= kRing && kRing % kColumns == 0, "a tile's diagonals fit");

 public:
  static constexpr int kFloats = 2 * kWarps * kColumns + kRing;

  __device__ explicit DistanceSums(float* room)
      : of_warps_(room), ring_(room + 2 * kWarps * kColumns) {
    lane_ = threadIdx.x % 32;
    g_ = lane_ / 4;
    t_ = lane_ % 4;
  }

  /// `partial`: where the first diagonal of the block's first tile goes. Seen by all threads after
  /// the next barrier.
  __device__ void begin(float* partial) {
    partial_ = partial;
    for (int i = threadIdx.x; i < kRing; i += kThreads) ring_[i] = 0;
  }

  /// The warp's gradients of a tile's scores; keys before `front` have no bias.
  __device__ void add(const Products<1, kN>& s, int key, int64_t front) {
    // Blocks of 8 x 8 on one diagonal of blocks, together.
    float blocks[kBlocks][2] = {};
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          if (key >= front || key + 8 * n + 2 * t_ + e >= front)
            blocks[n - half + 1][e] += s[0][n][2 * half + e];
        }
      }
    }
    // Each row turned by its number, so that a thread has the same diagonal, or the one 8 further,
    // in all rows.
    const int turn = g_ / 2, odd = g_ % 2, base = lane_ - t_;
    float turned[kBlocks][2];
#pragma unroll
    for (int u = 0; u < kBlocks; ++u) {
      turned[u][0] =
          __shfl_sync(0xffffffffu, odd ? blocks[u][1] : blocks[u][0], base + (t_ + turn) % 4);
      turned[u][1] =
          __shfl_sync(0xffffffffu, odd ? blocks[u][0] : blocks[u][1], base + (t_ + turn + odd) % 4);
    }
    float sums[kN][2];
#pragma unroll
    for (int slot = 0; slot < kBlocks + 1; ++slot) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const bool is_before = 2 * t_ + e + g_ >= 8;
        const float before = slot < kBlocks ? turned[slot < kBlocks ? slot : 0][e] : 0.0f;
        const float behind = slot > 0 ? turned[slot > 0 ? slot - 1 : 0][e] : 0.0f;
        const float x = is_before ? before : behind;
        if (slot < kN) {
          sums[slot][e] = x + (slot < 2 ? carried_[slot < 2 ? slot : 0][e] : 0.0f);
        } else {
          carried_next_[slot - kN][e] = x;
        }
      }
    }
#pragma unroll
    for (int slot = 0; slot < 2; ++slot) {
      carried_[slot][0] = carried_next_[slot][0];
      carried_[slot][1] = carried_next_[slot][1];
    }
    put(sums);
  }

  /// Joins what the warps have put; behind a barrier after add().
  __device__ void join_warps() { join(kColumns); }

  __device__ void finish(bool has_tiles) {
    if (!has_tiles) return;
    __syncthreads();
    join(kColumns);
    float sums[kN][2] = {};
#pragma unroll
    for (int slot = 0; slot < 2; ++slot) {
      sums[slot][0] = carried_[slot][0];
      sums[slot][1] = carried_[slot][1];
    }
    put(sums);
    __syncthreads();
    join(kWidth);
  }

 private:
  static constexpr int kBlocks = kN + 1;  ///< diagonals of blocks in a warp's tile

  /// Sums over the eight rows; thread (g, t) gets slot g.
  __device__ void put(const float (&sums)[kN][2]) {
    float four[4][2], two[2][2], one[2];
    const bool b2 = g_ & 4, b1 = g_ & 2, b0 = g_ & 1;
#pragma unroll
    for (int e = 0; e < 2; ++e) {
#pragma unroll
      for (int i = 0; i < 4; ++i)
        four[i][e] = (b2 ? sums[i + 4][e] : sums[i][e]) +
                     __shfl_xor_sync(0xffffffffu, b2 ? sums[i][e] : sums[i + 4][e], 16);
#pragma unroll
      for (int i = 0; i < 2; ++i)
        two[i][e] = (b1 ? four[i + 2][e] : four[i][e]) +
                    __shfl_xor_sync(0xffffffffu, b1 ? four[i][e] : four[i + 2][e], 8);
      one[e] = (b0 ? two[1][e] : two[0][e]) +
               __shfl_xor_sync(0xffffffffu, b0 ? two[0][e] : two[1][e], 4);
    }
    float* to = of_warps_ + (tile_put_ % 2 * kWarps + threadIdx.x / 32) * kColumns + 2 * lane_;
    to[0] = one[0];
    to[1] = one[1];
    ++tile_put_;
  }

  /// Adds the warps' diagonals of a tile to the ring; the first `done` are complete.
  __device__ void join(int done) {
    const float* from = of_warps_ + tile_joined_ % 2 * kWarps * kColumns;
    for (int y = threadIdx.x; y < kWidth; y += kThreads) {
      float sum = 0;
#pragma unroll
      for (int w = 0; w < kWarps; ++w) {
        const int own = y - 16 * (kWarps - 1 - w);
        if (own >= 0 && own < kColumns) sum += from[w * kColumns + own];
      }
      float& so_far = ring_[(tile_joined_ * kColumns + y) % kRing];
      sum += so_far;
      so_far = y < done ? 0.0f : sum;
      if (y < done) partial_[tile_joined_ * kColumns + y] = sum;
    }
    ++tile_joined_;
  }

  float *of_warps_, *ring_, *partial_ = nullptr;
  int lane_, g_, t_, tile_put_ = 0, tile_joined_ = 0;
  float carried_[2][2] = {}, carried_next_[2][2] = {};
};

}  // namespace x_transformers::kernels::cuda
