// A cluster of blocks has a row, whose logits stay in registers. What is looked for is the lowest
// logit that is kept: the least threshold above which the weights of logits add up to no more than
// a limit. The weights are 1 where logits are counted, and exp(x - max) where their share is asked
// for. Nothing is sorted: the bits of the threshold are found from the top, two at a time, by the
// sums above three thresholds. Sums are added in a fixed order, so that all blocks see the same and
// every run gives the same.
#include "x_transformers/kernels/cuda/keep_likely.cuh"

#include <cooperative_groups.h>

#include <climits>
#include <cmath>

#include "x_transformers/kernels/cuda/device/cluster.cuh"
#include "x_transformers/kernels/cuda/device/dependent_launch.cuh"
#include "x_transformers/kernels/cuda/device/row_sum.cuh"

namespace x_transformers::kernels::cuda {
namespace {

constexpr int kThreads = 512, kWarps = kThreads / kWarp, kMaxParts = 8;
constexpr int kTries = 3;  ///< thresholds at a time

struct Room {
  float of_warps[2][kWarps][kTries];
  float of_block[2][kTries];
};

struct Sum {
  static constexpr float kNone = 0;
  static __device__ float join(float a, float b) { return a + b; }
};
struct Max {
  static constexpr float kNone = -INFINITY;
  static __device__ float join(float a, float b) { return fmaxf(a, b); }
};

/// Joins numbers of all threads of the cluster, for all of them.
class Cluster {
 public:
  __device__ Cluster(Room& room, int parts) : room_(room), parts_(parts) {}

  template <class Op>
  __device__ void join(float (&x)[kTries]) {
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
#pragma unroll
    for (int i = 0; i < kTries; ++i) {
      for (int offset = kWarp / 2; offset > 0; offset /= 2)
        x[i] = Op::join(x[i], __shfl_xor_sync(0xffffffffu, x[i], offset));
      if (lane == 0) room_.of_warps[turn_][warp][i] = x[i];
    }
    __syncthreads();
    if (threadIdx.x < kTries) {
      float all = Op::kNone;
#pragma unroll
      for (int w = 0; w < kWarps; ++w) all = Op::join(all, room_.of_warps[turn_][w][threadIdx.x]);
      room_.of_block[turn_][threadIdx.x] = all;
    }
    wait();
    // Lane 8 i + p reads number i of part p.
    const int part = lane % kMaxParts, number = min(lane / kMaxParts, kTries - 1);
    float mine = part < parts_ ? of_part(part, number) : Op::kNone;
#pragma unroll
    for (int offset = 1; offset < kMaxParts; offset *= 2)
      mine = Op::join(mine, __shfl_xor_sync(0xffffffffu, mine, offset));
#pragma unroll
    for (int i = 0; i < kTries; ++i) x[i] = __shfl_sync(0xffffffffu, mine, i * kMaxParts);
    turn_ = 1 - turn_;  // who is slow may still read
  }

  /// Returns when all blocks have come here.
  __device__ void wait() const {
    if (parts_ > 1) return wait_for_cluster();
    __syncthreads();
  }

 private:
  __device__ float of_part(int part, int number) const {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    if (parts_ > 1)
      return *cooperative_groups::this_cluster().map_shared_rank(&room_.of_block[turn_][number],
                                                                 part);
#endif
    return room_.of_block[turn_][number];
  }

  Room& room_;
  int parts_, turn_ = 0;
};

/// A number whose order is that of the floats.
__device__ uint32_t key_of(float x) {
  const uint32_t bits = __float_as_uint(x);
  return bits ^ (bits >> 31 != 0 ? 0xffffffffu : 0x80000000u);
}

/// The least number of so many bits (an even one) whose sum is not above the limit: sums(tries)
/// makes of kTries numbers their sums, which fall as the numbers grow. `above` is the sum of the
/// maximum before, and that of the result after.
template <class Sums>
__device__ uint32_t least_within(int bits, float limit, float& above, const Sums& sums) {
  uint32_t found = 0;
  for (int shift = bits - 2; shift >= 0; shift -= 2) {
    const uint32_t below = (uint32_t{1} << shift) - 1;
    uint32_t tries[kTries];
    float of_tries[kTries];
#pragma unroll
    for (uint32_t i = 0; i < kTries; ++i) tries[i] = found | (i << shift) | below;
    sums(tries, of_tries);
    uint32_t digit = kTries;
#pragma unroll
    for (int i = kTries - 1; i >= 0; --i) {
      if (of_tries[i] > limit) continue;  // not so of a NaN
      digit = static_cast<uint32_t>(i);
      above = of_tries[i];
    }
    found |= digit << shift;
  }
  return found;
}

template <int kPer>
__global__ void __launch_bounds__(kThreads) keep_likely_kernel(KeepLikely p) {
  __shared__ Room room;
  const int parts = static_cast<int>(gridDim.x), dim = static_cast<int>(p.dim);
  const int share = (dim + parts - 1) / parts, begin = static_cast<int>(blockIdx.x) * share;
  const int end = min(begin + share, dim), first = begin + static_cast<int>(threadIdx.x);
  const float* x = p.x + int64_t{blockIdx.y} * dim;
  Cluster cluster(room, parts);
  wait_for_earlier();
  let_next_begin();

  float values[kPer];
  float most[kTries] = {-INFINITY, 0, 0};  // and whether there are bits beyond those of bfloat16
  constexpr uint32_t kLow = 0xffff;
#pragma unroll
  for (int i = 0; i < kPer; ++i) {
    const int at = first + i * kThreads;
    values[i] = at < end ? __ldcg(x + at) : -INFINITY;
    most[0] = fmaxf(most[0], values[i]);
    if ((__float_as_uint(values[i]) & kLow) != 0) most[1] = 1;
  }
  cluster.join<Max>(most);
  // Logits that a model of 16 bits has made need half as many bits.
  constexpr int kBits = 32, kHalf = 16;
  const int skipped = most[1] == 0 ? kHalf : 0;
  uint32_t keys[kPer];
  float weights[kPer], total[kTries] = {};
#pragma unroll
  for (int i = 0; i < kPer; ++i) {
    const bool exists = first + i * kThreads < end;
    keys[i] = exists ? key_of(values[i]) >> skipped : 0;
    weights[i] = !exists ? 0.0f : p.count > 0 ? 1.0f : __expf(values[i] - most[0]);
    total[0] += weights[i];
  }
  float limit = static_cast<float>(p.count - 1);
  if (p.count == 0) {
    cluster.join<Sum>(total);
    limit = p.share < 1 ? p.share * total[0] : INFINITY;
  }

  float above = 0;
  const uint32_t lowest = least_within(kBits - skipped, limit, above,
                                       [&](const uint32_t(&tries)[kTries], float(&sums)[kTries]) {
#pragma unroll
                                         for (int j = 0; j < kTries; ++j) {
                                           sums[j] = 0;
#pragma unroll
                                           for (int i = 0; i < kPer; ++i)
                                             sums[j] += keys[i] > tries[j] ? weights[i] : 0.0f;
                                         }
                                         cluster.join<Sum>(sums);
                                       });

  // How many of those equal to the lowest are kept, and how many there are.
  float equal[kTries] = {}, weight[kTries] = {};
#pragma unroll
  for (int i = 0; i < kPer; ++i) {
    if (first + i * kThreads >= end || keys[i] != lowest) continue;
    equal[0] += 1;
    weight[0] = weights[i];
  }
  cluster.join<Sum>(equal);
  cluster.join<Max>(weight);
  const float more = floorf((limit - above) / weight[0]) + 1;
  uint32_t last = UINT_MAX;
  if (more < equal[0]) {
    // The place of the last: how many are behind a place falls as it moves on.
    constexpr int kPlaceBits = 18;
    float behind = 0;
    last = least_within(kPlaceBits, equal[0] - more, behind,
                        [&](const uint32_t(&tries)[kTries], float(&sums)[kTries]) {
#pragma unroll
                          for (int j = 0; j < kTries; ++j) {
                            sums[j] = 0;
#pragma unroll
                            for (int i = 0; i < kPer; ++i) {
                              const int at = first + i * kThreads;
                              const bool is_behind = static_cast<uint32_t>(at) > tries[j];
                              if (at < end && keys[i] == lowest && is_behind) sums[j] += 1;
                            }
                          }
                          cluster.join<Sum>(sums);
                        });
  }
  float* out = p.out + int64_t{blockIdx.y} * dim;
#pragma unroll
  for (int i = 0; i < kPer; ++i) {
    const int at = first + i * kThreads;
    const bool is_kept =
        keys[i] > lowest || (keys[i] == lowest && static_cast<uint32_t>(at) <= last);
    if (at < end) out[at] = is_kept ? values[i] : -INFINITY;
  }
  cluster.wait();  // a block stays until nobody reads its memory
}

/// Logits that a thread has.
constexpr int kFew = 16, kMany = 32;

unsigned most_parts() { return has_clusters() ? kMaxParts : 1; }

}  // namespace

int64_t keep_likely_most() { return int64_t{most_parts()} * kThreads * kMany; }

cudaError_t keep_likely(const KeepLikely& params, cudaStream_t stream) {
  if (params.rows == 0) return cudaSuccess;
  const unsigned parts = most_parts();
  const bool is_short = params.dim <= int64_t{parts} * kThreads * kFew;
  const auto kernel = is_short ? keep_likely_kernel<kFew> : keep_likely_kernel<kMany>;
  return launch_early(
      kernel, {dim3(parts, static_cast<unsigned>(params.rows)), dim3(kThreads), 0, dim3(parts)},
      stream, params);
}

}  // namespace x_transformers::kernels::cuda
