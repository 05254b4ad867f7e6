// Heads mixed by the tensor cores (mma.m16n8k16): a product of the weights [heads, heads] with the
// heads [heads, positions], whose fragments are read 16 bytes at a time from memory. The order of
// positions within a product is free, as long as both sides agree:
//   mixing: lane 4 * g + t reads 8 positions, one block of the warp's 8, of heads 2t, 2t + 1, 2t +
//   8 and 2t + 9. The product of number m has position m of each block for its columns, so that a
//   lane ends with all 8 positions of the blocks of columns 2t and 2t + 1, of heads g and g + 8;
//   even columns have the first four blocks, so that four lanes write them side by side.
//   the gradient of weights: positions are summed over, and lane 4 * g + t has positions 8t..8t + 7
//   of heads g and g + 8, on both sides.
#include <algorithm>

#include "x_transformers/kernels/cuda/device/matrix_tile.cuh"
#include "x_transformers/kernels/cuda/device/row_sum.cuh"
#include "x_transformers/kernels/cuda/device/vector.cuh"
#include "x_transformers/kernels/cuda/dispatch.cuh"
#include "x_transformers/kernels/cuda/score_matrix.cuh"

namespace x_transformers::kernels::cuda {
namespace {

constexpr int kVector = 8;  ///< positions that a lane has of a head
constexpr int kWarps = 4;   ///< of a block
constexpr int kMixedAtOnce = 8 * kVector, kSummedAtOnce = 4 * kVector;  ///< positions of a warp
constexpr int kMaxBlocks = 528;                                         ///< four a multiprocessor

/// kVector positions of a head from `at` on, two a register; those that do not exist are 0.
template <class T, bool kIsAligned>
__device__ void load_positions(uint32_t (&to)[4], const T* head, int64_t at, int64_t positions,
                               bool exists) {
  Vector<T, kVector> values;
  if constexpr (kIsAligned) {
    exists = exists && at < positions;
    const auto loaded = exists ? *reinterpret_cast<const uint4*>(head + at) : uint4{0, 0, 0, 0};
    to[0] = loaded.x, to[1] = loaded.y, to[2] = loaded.z, to[3] = loaded.w;
  } else {
#pragma unroll
    for (int i = 0; i < kVector; ++i)
      values.values[i] = exists && at + i < positions ? head[at + i] : from_float<T>(0);
#pragma unroll
    for (int i = 0; i < 4; ++i) to[i] = reinterpret_cast<const uint32_t*>(&values)[i];
  }
}

template <class T, bool kIsAligned>
__device__ void store_positions(const uint32_t (&from)[4], T* head, int64_t at, int64_t positions) {
  if constexpr (kIsAligned) {
    if (at < positions)
      *reinterpret_cast<uint4*>(head + at) = make_uint4(from[0], from[1], from[2], from[3]);
  } else {
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      if (at + i < positions) head[at + i] = reinterpret_cast<const T*>(from)[i];
    }
  }
}

/// Two weights as a sum of two numbers of T each, so that they count to twice the mantissa of T.
template <class T>
__device__ void split(float low, float high, uint32_t& coarse, uint32_t& fine) {
  const float low_part = to_float(from_float<T>(low)), high_part = to_float(from_float<T>(high));
  coarse = packed<T>(low_part, high_part);
  fine = packed<T>(low - low_part, high - high_part);
}

template <class T, int kTiles, bool kIsAligned>
__global__ void __launch_bounds__(kWarps* kWarp) mix_heads_kernel(MixHeads p) {
  const int lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  const auto heads = static_cast<int>(p.heads);
  const auto weight = [&](int o, int h) {
    if (o >= heads || h >= heads) return 0.0f;
    const float added = p.added && o == h ? 1.0f : 0.0f;
    return added + p.weights[o * p.weight_strides[0] + h * p.weight_strides[1]];
  };
  uint32_t coarse[kTiles][kTiles][4], fine[kTiles][kTiles][4];  // of 16 o, 16 h
#pragma unroll
  for (int m = 0; m < kTiles; ++m) {
#pragma unroll
    for (int k = 0; k < kTiles; ++k) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int o = 16 * m + g + i % 2 * 8, h = 16 * k + 2 * t + i / 2 * 8;
        split<T>(weight(o, h), weight(o, h + 1), coarse[m][k][i], fine[m][k][i]);
      }
    }
  }

  const int64_t entry = int64_t{blockIdx.y} * p.heads * p.positions;
  const T* from = static_cast<const T*>(p.from) + entry;
  T* to = static_cast<T*>(p.to) + entry;
  const int64_t step = int64_t{gridDim.x} * kWarps * kMixedAtOnce;
  int64_t at = (int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp) * kMixedAtOnce;
  const int own_block = g / 2 + g % 2 * 4;
  for (; at < p.positions; at += step) {
    uint32_t read[kTiles][4][4];
#pragma unroll
    for (int k = 0; k < kTiles; ++k) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int h = 16 * k + 2 * t + i % 2 + i / 2 * 8;
        load_positions<T, kIsAligned>(read[k][i], from + h * p.positions, at + own_block * kVector,
                                      p.positions, h < heads);
      }
    }
#pragma unroll
    for (int m = 0; m < kTiles; ++m) {
      uint32_t mixed[4][4];  // of columns 2t, 2t + 1 of head g, then g + 8; two positions each
#pragma unroll
      for (int two = 0; two < kVector / 2; ++two) {
        float sums[2][4] = {};
#pragma unroll
        for (int i = 0; i < 2; ++i) {
#pragma unroll
          for (int k = 0; k < kTiles; ++k) {
            const auto of_heads = [&](int h) {
              return __byte_perm(read[k][h][two], read[k][h + 1][two], i == 0 ? 0x5410 : 0x7632);
            };
            const uint32_t low = of_heads(0), high = of_heads(2);
            multiply_add<T>(sums[i], fine[m][k], low, high);
            multiply_add<T>(sums[i], coarse[m][k], low, high);
          }
        }
#pragma unroll
        for (int i = 0; i < 4; ++i) mixed[i][two] = packed<T>(sums[0][i], sums[1][i]);
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int o = 16 * m + g + i / 2 * 8;
        if (o < heads) {
          store_positions<T, kIsAligned>(mixed[i], to + o * p.positions,
                                         at + (t + i % 2 * 4) * kVector, p.positions);
        }
      }
    }
  }
}

/// A block's part of the sums, [block][heads, heads].
template <class T, int kTiles, bool kIsAligned>
__global__ void __launch_bounds__(kWarps* kWarp) mix_heads_weights_kernel(MixHeadsWeights p) {
  constexpr int kRow = 16 * kTiles, kSize = kRow * kRow;
  __shared__ float room[kWarps][kSize];
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  const auto heads = static_cast<int>(p.heads);
  const int64_t parts = (p.positions + kSummedAtOnce - 1) / kSummedAtOnce;
  const int64_t step = int64_t{gridDim.x} * kWarps;
  float sums[kTiles][2 * kTiles][4] = {};
#pragma unroll 2
  for (int64_t part = int64_t{blockIdx.x} * kWarps + warp; part < p.batch * parts; part += step) {
    const int64_t entry = part / parts * p.heads * p.positions;
    const int64_t at = part % parts * kSummedAtOnce + t * kVector;
    uint32_t grads[2 * kTiles][4], given[2 * kTiles][4];
#pragma unroll
    for (int i = 0; i < 2 * kTiles; ++i) {
      const int head = 8 * i + g;
      const int64_t offset = entry + head * p.positions;
      load_positions<T, kIsAligned>(grads[i], static_cast<const T*>(p.to_grad) + offset, at,
                                    p.positions, head < heads);
      load_positions<T, kIsAligned>(given[i], static_cast<const T*>(p.from) + offset, at,
                                    p.positions, head < heads);
    }
#pragma unroll
    for (int m = 0; m < kTiles; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const uint32_t left[4] = {grads[2 * m][2 * half], grads[2 * m + 1][2 * half],
                                  grads[2 * m][2 * half + 1], grads[2 * m + 1][2 * half + 1]};
#pragma unroll
        for (int n = 0; n < 2 * kTiles; ++n)
          multiply_add<T>(sums[m][n], left, given[n][2 * half], given[n][2 * half + 1]);
      }
    }
  }
#pragma unroll
  for (int m = 0; m < kTiles; ++m) {
#pragma unroll
    for (int n = 0; n < 2 * kTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i)
        room[warp][(16 * m + g + i / 2 * 8) * kRow + 8 * n + 2 * t + i % 2] = sums[m][n][i];
    }
  }
  __syncthreads();
  for (int at = threadIdx.x; at < heads * heads; at += kWarps * kWarp) {
    const int place = at / heads * kRow + at % heads;
    float total = 0;
    for (int w = 0; w < kWarps; ++w) total += room[w][place];
    p.partial[int64_t{blockIdx.x} * heads * heads + at] = total;
  }
}

/// A warp adds up a weight's parts.
__global__ void __launch_bounds__(kWarps* kWarp) join_kernel(MixHeadsWeights p, int blocks) {
  const auto size = static_cast<int>(p.heads * p.heads);
  const int at = blockIdx.x * kWarps + threadIdx.x / kWarp;
  if (at >= size) return;  // whole warps
  float sum = 0;
  for (int block = threadIdx.x % kWarp; block < blocks; block += kWarp)
    sum += p.partial[block * size + at];
  sum = warp_sum(sum);
  if (threadIdx.x % kWarp == 0) p.weights_grad[at] = sum + (p.accumulates ? p.weights_grad[at] : 0);
}

template <class T, int kTiles, bool kIsAligned>
void launch(const MixHeads& p, cudaStream_t stream) {
  const int64_t warps = (p.positions + kMixedAtOnce - 1) / kMixedAtOnce;
  const int64_t most = std::max<int64_t>(1, 4 * kMaxBlocks / p.batch);
  const dim3 blocks(static_cast<unsigned>(std::min((warps + kWarps - 1) / kWarps, most)),
                    static_cast<unsigned>(p.batch));
  mix_heads_kernel<T, kTiles, kIsAligned><<<blocks, kWarps * kWarp, 0, stream>>>(p);
}

template <class T, int kTiles, bool kIsAligned>
void launch(const MixHeadsWeights& p, cudaStream_t stream) {
  const int64_t parts = p.batch * ((p.positions + kSummedAtOnce - 1) / kSummedAtOnce);
  const auto blocks =
      static_cast<int>(std::min<int64_t>((parts + kWarps - 1) / kWarps, kMaxBlocks));
  mix_heads_weights_kernel<T, kTiles, kIsAligned><<<blocks, kWarps * kWarp, 0, stream>>>(p);
  const auto joins = static_cast<unsigned>((p.heads * p.heads + kWarps - 1) / kWarps);
  join_kernel<<<joins, kWarps * kWarp, 0, stream>>>(p, blocks);
}

template <class Params>
cudaError_t run(const Params& p, bool is_aligned, cudaStream_t stream) {
  const auto with_tiles = [&](auto number) {
    using T = decltype(number);
    if (p.heads <= 16) {
      is_aligned ? launch<T, 1, true>(p, stream) : launch<T, 1, false>(p, stream);
    } else {
      is_aligned ? launch<T, 2, true>(p, stream) : launch<T, 2, false>(p, stream);
    }
  };
  p.element == Element::bfloat16 ? with_tiles(__nv_bfloat16{}) : with_tiles(__half{});
  return cudaGetLastError();
}

}  // namespace

cudaError_t mix_heads(const MixHeads& params, cudaStream_t stream) {
  if (params.batch * params.heads * params.positions == 0) return cudaSuccess;
  const bool has_vectors =
      params.positions % kVector == 0 && is_aligned(params.from) && is_aligned(params.to);
  return run(params, has_vectors, stream);
}

cudaError_t mix_heads_weights(const MixHeadsWeights& params, cudaStream_t stream) {
  if (params.batch * params.heads * params.positions == 0) return cudaSuccess;
  const bool has_vectors =
      params.positions % kVector == 0 && is_aligned(params.from) && is_aligned(params.to_grad);
  return run(params, has_vectors, stream);
}

}  // namespace x_transformers::kernels::cuda
