// A block has a key head, or a part of its keys, and all query heads that share it, so that keys
// and values are read once. A few lanes have a key, eight features each; every such slot goes over
// keys of its own and keeps a softmax of its own, and the slots are joined at the end: those of a
// warp by exchange, the warps in shared memory, the parts by a second kernel.
#include "x_transformers/kernels/cuda/decode_attention.cuh"

#include <cmath>

#include "x_transformers/kernels/cuda/device/row_sum.cuh"
#include "x_transformers/kernels/cuda/device/vector.cuh"

namespace x_transformers::kernels::cuda {
namespace {

constexpr int kWarps = 8, kSize = 8;
constexpr float kNothing = -INFINITY;

/// exp(a - b), 0 where there was nothing.
__device__ float share(float a, float b) { return a == kNothing ? 0.0f : __expf(a - b); }

/// A softmax over some keys: the greatest score, the sum of exponentials relative to it, and the
/// values weighted by them, of eight features.
struct Weighted {
  float most = kNothing, sum = 0, values[kSize] = {};

  __device__ void join(float other_most, float other_sum, const float (&other_values)[kSize]) {
    const float greater = fmaxf(most, other_most);
    const float mine = share(most, greater), theirs = share(other_most, greater);
    most = greater;
    sum = sum * mine + other_sum * theirs;
#pragma unroll
    for (int i = 0; i < kSize; ++i) values[i] = values[i] * mine + other_values[i] * theirs;
  }
};

/// Where the head of query `r` of a group is, in the order of the queries.
__device__ int64_t head_of(const DecodeAttention& p, int r, int64_t kv_head) {
  return r * p.kv_heads + kv_head;
}

template <class T, int kLanes, int kGroup>
__global__ void __launch_bounds__(kWarps* kWarp) decode_kernel(DecodeAttention p) {
  constexpr int kSlots = kWarps * kWarp / kLanes, kDim = kLanes * kSize, kTogether = 4;
  __shared__ float mosts[kWarps][kGroup], sums[kWarps][kGroup];
  extern __shared__ float values_of_warps[];  // [kWarps][kGroup][kDim]
  const int64_t row = blockIdx.x, entry = row / p.kv_heads, kv_head = row % p.kv_heads;
  const int thread = threadIdx.x, warp = thread / kWarp, lane = thread % kWarp;
  const int feature = lane % kLanes * kSize, slot = thread / kLanes;
  const T* keys = static_cast<const T*>(p.k) + row * p.capacity * kDim + feature;
  const T* values = static_cast<const T*>(p.v) + row * p.capacity * kDim + feature;

  float queries[kGroup][kSize];
#pragma unroll
  for (int r = 0; r < kGroup; ++r) {
    const auto q = Vector<T, kSize>::load(static_cast<const T*>(p.q) + entry * p.q_strides[0] +
                                          head_of(p, r, kv_head) * p.q_strides[1] + feature);
#pragma unroll
    for (int i = 0; i < kSize; ++i) queries[r][i] = to_float(q.values[i]) * p.scale;
  }
  const int count = p.count[row], parts = gridDim.y;
  const int part = (count + parts - 1) / parts, begin = blockIdx.y * part;
  const int end = min(begin + part, count);
  Weighted all[kGroup];
  for (int base = begin; base < end; base += kTogether * kSlots) {
    // Read before the first is used, so that they are on their way together.
    Vector<T, kSize> k[kTogether], v[kTogether];
#pragma unroll
    for (int n = 0; n < kTogether; ++n) {
      const int key = min(base + n * kSlots + slot, end - 1);
      k[n] = Vector<T, kSize>::load(keys + int64_t{key} * kDim);
      v[n] = Vector<T, kSize>::load(values + int64_t{key} * kDim);
    }
#pragma unroll
    for (int n = 0; n < kTogether; ++n) {
      if (base + n * kSlots >= end) break;  // for all slots
      const bool exists = base + n * kSlots + slot < end;
      float weighted[kSize];
#pragma unroll
      for (int i = 0; i < kSize; ++i) weighted[i] = to_float(v[n].values[i]);
#pragma unroll
      for (int r = 0; r < kGroup; ++r) {
        float score = 0;
#pragma unroll
        for (int i = 0; i < kSize; ++i) score += queries[r][i] * to_float(k[n].values[i]);
#pragma unroll
        for (int offset = kLanes / 2; offset > 0; offset /= 2)
          score += __shfl_xor_sync(0xffffffffu, score, offset);
        if (exists) all[r].join(score, 1.0f, weighted);
      }
    }
  }
  // The slots of a warp.
#pragma unroll
  for (int offset = kLanes; offset < kWarp; offset *= 2) {
#pragma unroll
    for (int r = 0; r < kGroup; ++r) {
      const float most = __shfl_xor_sync(0xffffffffu, all[r].most, offset);
      const float sum = __shfl_xor_sync(0xffffffffu, all[r].sum, offset);
      float others[kSize];
#pragma unroll
      for (int i = 0; i < kSize; ++i)
        others[i] = __shfl_xor_sync(0xffffffffu, all[r].values[i], offset);
      all[r].join(most, sum, others);
    }
  }
  if (lane < kLanes) {
#pragma unroll
    for (int r = 0; r < kGroup; ++r) {
#pragma unroll
      for (int i = 0; i < kSize; ++i)
        values_of_warps[(warp * kGroup + r) * kDim + feature + i] = all[r].values[i];
      if (lane == 0) {
        mosts[warp][r] = all[r].most;
        sums[warp][r] = all[r].sum;
      }
    }
  }
  __syncthreads();
  // The warps.
  for (int at = thread; at < kGroup * kDim; at += kWarps * kWarp) {
    const int r = at / kDim, f = at % kDim;
    float most = kNothing, sum = 0, value = 0;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) most = fmaxf(most, mosts[w][r]);
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      const float weight = share(mosts[w][r], most);
      sum += sums[w][r] * weight;
      value += values_of_warps[(w * kGroup + r) * kDim + f] * weight;
    }
    if (parts == 1) {
      static_cast<T*>(p.out)[(entry * p.heads + head_of(p, r, kv_head)) * kDim + f] =
          from_float<T>(value / sum);
    } else {
      float* partial = p.partial + ((row * parts + blockIdx.y) * kGroup + r) * (kDim + 2);
      partial[f] = value;
      if (f == 0) {
        partial[kDim] = most;
        partial[kDim + 1] = sum;
      }
    }
  }
}

template <class T>
__global__ void join_parts_kernel(DecodeAttention p, int group, int parts) {
  const int64_t row = blockIdx.x, entry = row / p.kv_heads, kv_head = row % p.kv_heads;
  const int dim = static_cast<int>(p.dim);
  for (int at = threadIdx.x; at < group * dim; at += blockDim.x) {
    const int r = at / dim, f = at % dim;
    const auto partial = [&](int part) {
      return p.partial + ((row * parts + part) * group + r) * (dim + 2);
    };
    float most = kNothing, sum = 0, value = 0;
    for (int part = 0; part < parts; ++part) most = fmaxf(most, partial(part)[dim]);
    for (int part = 0; part < parts; ++part) {
      const float weight = share(partial(part)[dim], most);
      sum += partial(part)[dim + 1] * weight;
      value += partial(part)[f] * weight;
    }
    static_cast<T*>(p.out)[(entry * p.heads + head_of(p, r, kv_head)) * dim + f] =
        from_float<T>(value / sum);
  }
}

template <class T, int kLanes, int kGroup>
void launch(const DecodeAttention& params, cudaStream_t stream) {
  constexpr int kBytes = kWarps * kGroup * kLanes * kSize * static_cast<int>(sizeof(float));
  const auto rows = static_cast<unsigned>(params.batch * params.kv_heads);
  const dim3 blocks(rows, static_cast<unsigned>(params.splits));
  decode_kernel<T, kLanes, kGroup><<<blocks, kWarps * kWarp, kBytes, stream>>>(params);
  if (params.splits > 1) {
    join_parts_kernel<T>
        <<<rows, kWarps * kWarp, 0, stream>>>(params, kGroup, static_cast<int>(params.splits));
  }
}

template <class T, int kLanes>
cudaError_t launch_group(const DecodeAttention& params, cudaStream_t stream) {
  constexpr int kDim = kLanes * kSize;
  const auto group = params.heads / params.kv_heads;
#define XT_GROUP(n)                                     \
  if constexpr (n * kDim <= kMostDecodeGroupFeatures) { \
    if (group == n) {                                   \
      launch<T, kLanes, n>(params, stream);             \
      return cudaGetLastError();                        \
    }                                                   \
  }
  XT_GROUP(1)
  XT_GROUP(2)
  XT_GROUP(3)
  XT_GROUP(4)
  XT_GROUP(6)
  XT_GROUP(8)
#undef XT_GROUP
  return cudaErrorInvalidValue;
}

template <class T>
cudaError_t launch_lanes(const DecodeAttention& params, cudaStream_t stream) {
  switch (params.dim / kSize) {
    case 1:
      return launch_group<T, 1>(params, stream);
    case 2:
      return launch_group<T, 2>(params, stream);
    case 4:
      return launch_group<T, 4>(params, stream);
    case 8:
      return launch_group<T, 8>(params, stream);
    case 16:
      return launch_group<T, 16>(params, stream);
    case 32:
      return launch_group<T, 32>(params, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace

cudaError_t decode_attention(const DecodeAttention& params, cudaStream_t stream) {
  if (params.batch == 0) return cudaSuccess;
  return params.element == Element::float16 ? launch_lanes<__half>(params, stream)
                                            : launch_lanes<__nv_bfloat16>(params, stream);
}

}  // namespace x_transformers::kernels::cuda
