// A row belongs to a warp, or to a block where it is long. Each thread keeps its part of the row in
// registers, so scores are read once. The smallest of the largest scores is found by bisection
// among the numbers of 16 bits.
#include <algorithm>

#include "x_transformers/kernels/cuda/device/row_sum.cuh"
#include "x_transformers/kernels/cuda/device/vector.cuh"
#include "x_transformers/kernels/cuda/dispatch.cuh"
#include "x_transformers/kernels/cuda/score_matrix.cuh"
#include "x_transformers/kernels/cuda/score_rows.cuh"

namespace x_transformers::kernels::cuda {
namespace {

constexpr int kWarpsOfShortRows = 4;  ///< of a block
constexpr float kLog2E = 1.4426950408889634f;

/// How a kernel goes over a row: thread t of the group has the vectors t, t + threads, ... of kSize
/// numbers, at most kParts of them. kIsSparse: only the largest scores count.
template <class T, int size, int parts, int threads, bool sparse>
struct Layout {
  using Element = T;
  static constexpr int kSize = size, kParts = parts, kMaxThreads = threads;
  static constexpr int kKeysOfAWarp = size * parts * kWarp;
  static constexpr bool kIsSparse = sparse;
};

/// Numbers of 16 bits in the order of their values: integers.
__device__ int order_of(unsigned short bits) {
  return bits & 0x8000 ? static_cast<unsigned short>(~bits) : bits | 0x8000;
}
__device__ unsigned short bits_of(int order) {
  return static_cast<unsigned short>(order & 0x8000 ? order & 0x7fff : ~order);
}
template <class T>
struct Ordered;
template <>
struct Ordered<__nv_bfloat16> {
  using Pair = __nv_bfloat162;
  static constexpr int kMin = 0x0080;  ///< the number next to minus infinity
  __device__ static int of(float x) {
    return order_of(__bfloat16_as_ushort(__float2bfloat16_rn(x)));
  }
  __device__ static __nv_bfloat16 value(int order) { return __ushort_as_bfloat16(bits_of(order)); }
};
template <>
struct Ordered<__half> {
  using Pair = __half2;
  static constexpr int kMin = 0x0400;
  __device__ static int of(float x) { return order_of(__half_as_ushort(__float2half_rn(x))); }
  __device__ static __half value(int order) { return __ushort_as_half(bits_of(order)); }
};

/// 2 to the x; 0 of minus infinity.
__device__ float power_of_2(float x) {
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
  return power;
}

/// The maximum over threadIdx.x, in every thread, as row_sum; NaN counts for nothing.
__device__ float row_max(float x, float* room) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2)
    x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, offset));
  if (blockDim.x <= kWarp) return x;
  const int warps = blockDim.x / kWarp, lane = threadIdx.x % kWarp;
  __syncthreads();  // what an earlier call put there has been read
  if (lane == 0) room[threadIdx.x / kWarp] = x;
  __syncthreads();
  x = lane < warps ? room[lane] : -INFINITY;
  for (int offset = kWarp / 2; offset > 0; offset /= 2)
    x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, offset));
  return x;
}

/// The first key of a thread's vector.
template <class L>
__device__ int key_of(int part) {
  return (part * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x)) * L::kSize;
}

/// Scores less their gate, minus infinity where they are hidden. Where only the largest count,
/// they are rounded, as those that are compared.
template <class L>
__device__ void load_scores(const ScoreSoftmax& p, const ScoreRow& row,
                            float (&x)[L::kParts][L::kSize]) {
  using T = typename L::Element;
  using Part = Vector<T, L::kSize>;
  const T* scores = static_cast<const T*>(p.scores) + row.offset();
  const T* gate = static_cast<const T*>(p.gate);
  if (gate != nullptr) gate += row.entry() * p.gate_strides[0] + row.query() * p.gate_strides[1];
  Part read[L::kParts];
#pragma unroll
  for (int part = 0; part < L::kParts; ++part) {
    const int at = key_of<L>(part);
    if (row.may_see(at, L::kSize)) read[part] = Part::load(scores + at);
  }
#pragma unroll
  for (int part = 0; part < L::kParts; ++part) {
    const int at = key_of<L>(part);
    if (!row.may_see(at, L::kSize)) {
#pragma unroll
      for (int i = 0; i < L::kSize; ++i) x[part][i] = -INFINITY;
      continue;
    }
#pragma unroll
    for (int i = 0; i < L::kSize; ++i) x[part][i] = to_float(read[part].values[i]);
    if (gate != nullptr) {
      const auto gates = Part::load(gate + at);
#pragma unroll
      for (int i = 0; i < L::kSize; ++i) {
        x[part][i] -= to_float(gates.values[i]);
        if (L::kIsSparse) x[part][i] = to_float(from_float<T>(x[part][i]));
      }
    }
    if (!row.sees_all(at, L::kSize)) {
#pragma unroll
      for (int i = 0; i < L::kSize; ++i) {
        if (!row.sees(at + i)) x[part][i] = -INFINITY;
      }
    }
  }
}

/// The sum over threadIdx.x, in every thread, as row_sum.
__device__ int row_count(int x, float* room) {
  if (blockDim.x <= kWarp) return __reduce_add_sync(0xffffffffu, x);
  return static_cast<int>(row_sum(static_cast<float>(x), room));
}

/// The minimum over threads of the maximum score of each: so many scores reach it.
template <class L>
__device__ float reached_by_every_thread(const float (&x)[L::kParts][L::kSize]) {
  float own = -INFINITY;
#pragma unroll
  for (int part = 0; part < L::kParts; ++part) {
#pragma unroll
    for (int i = 0; i < L::kSize; ++i) own = fmaxf(own, x[part][i]);
  }
  for (int offset = kWarp / 2; offset > 0; offset /= 2)
    own = fminf(own, __shfl_xor_sync(0xffffffffu, own, offset));
  return own;
}

/// The `count`-th largest of the visible scores of a row; minus infinity where there are no more.
template <class L>
__device__ float smallest_kept(const float (&x)[L::kParts][L::kSize], int64_t count, float maximum,
                               float* room) {
  using Order = Ordered<typename L::Element>;
  using Pair = typename Order::Pair;
  constexpr int kPairs = L::kParts * L::kSize / 2;
  uint32_t pairs[kPairs];
#pragma unroll
  for (int i = 0; i < kPairs; ++i) {
    const auto at = [&](int n) { return x[n / L::kSize][n % L::kSize]; };
    pairs[i] = packed<typename L::Element>(at(2 * i), at(2 * i + 1));
  }
  // How many are `bound` or more: NaN is, hidden ones are not.
  const auto reach = [&](int bound) {
    const Pair bounds = {Order::value(bound), Order::value(bound)};
    Pair reached = {from_float<typename L::Element>(0), from_float<typename L::Element>(0)};
#pragma unroll
    for (int i = 0; i < kPairs; ++i)
      reached = __hadd2(reached, __hgeu2(*reinterpret_cast<const Pair*>(&pairs[i]), bounds));
    return row_count(static_cast<int>(to_float(reached.x) + to_float(reached.y)), room);
  };
  const auto wanted = static_cast<int>(min(count, int64_t{kMaxScoreKeys}));
  int low = Order::kMin, high = max(low, Order::of(maximum));
  const float reached_by_all = reached_by_every_thread<L>(x);
  if (blockDim.x == kWarp && count <= kWarp && reached_by_all > -INFINITY) {
    low = max(low, Order::of(reached_by_all));
  } else if (reach(low) <= wanted) {
    return -INFINITY;
  }
  // At least `wanted` reach low, and fewer what is above high. Bounds are halved by value, where
  // most scores are, and every other time by order, which ends.
  for (bool by_value = true; low < high; by_value = !by_value) {
    int middle = (low + high + 1) / 2;
    if (by_value) {
      const float halfway =
          0.5f * to_float(Order::value(low)) + 0.5f * to_float(Order::value(high));
      middle = min(max(Order::of(halfway), low + 1), high);
    }
    const int reached = reach(middle);
    if (reached >= wanted) low = middle;
    if (reached == wanted) break;
    if (reached < wanted) high = middle - 1;
  }
  return to_float(Order::value(low));
}

template <class L>
__global__ void __launch_bounds__(L::kMaxThreads) softmax_forward_kernel(ScoreSoftmax p) {
  using T = typename L::Element;
  __shared__ float room[kWarp];
  const int64_t index = int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
  if (index >= p.rows.batch * p.rows.heads * p.rows.queries) return;  // whole rows
  const ScoreRow row(p.rows, index);
  float x[L::kParts][L::kSize];
  load_scores<L>(p, row, x);

  float maximum = -INFINITY;
#pragma unroll
  for (int part = 0; part < L::kParts; ++part) {
#pragma unroll
    for (int i = 0; i < L::kSize; ++i) maximum = fmaxf(maximum, x[part][i]);
  }
  maximum = row_max(maximum, room);
  float least = -INFINITY;
  if constexpr (L::kIsSparse) least = smallest_kept<L>(x, p.topk, maximum, room);

  const float level = maximum == -INFINITY ? 0.0f : maximum * kLog2E;
  float sum = 0, sum_of_all = 0;
#pragma unroll
  for (int part = 0; part < L::kParts; ++part) {
#pragma unroll
    for (int i = 0; i < L::kSize; ++i) {
      const bool is_left_out = L::kIsSparse && x[part][i] < least;
      const float power = power_of_2(fmaf(x[part][i], kLog2E, -level));
      if (L::kIsSparse) sum_of_all += power;
      x[part][i] = is_left_out ? 0.0f : power;
      sum += x[part][i];
    }
  }
  sum = row_sum(sum, room);
  const float factor = sum == 0 ? 0.0f : 1.0f / sum;
  T* weights = static_cast<T*>(p.weights) + row.offset();
#pragma unroll
  for (int part = 0; part < L::kParts; ++part) {
    const int at = key_of<L>(part);
    if (at >= p.rows.keys) break;
#pragma unroll
    for (int i = 0; i < L::kSize; ++i) x[part][i] *= factor;
    store_rounded<T>(x[part], weights + at);
  }
  if (L::kIsSparse && p.straight_through) {
    sum = row_sum(sum_of_all, room);
    least = -INFINITY;
  }
  if (threadIdx.x != 0) return;
  if (p.log_sum_exp != nullptr) p.log_sum_exp[index] = sum == 0 ? INFINITY : level + log2f(sum);
  if (L::kIsSparse && p.least != nullptr) p.least[index] = least;
}

/// scores_grad = w * (weights_grad - sum(w * weights_grad)), w the weights before rounding.
template <class L>
__global__ void __launch_bounds__(L::kMaxThreads) softmax_backward_kernel(ScoreSoftmax p) {
  using T = typename L::Element;
  using Part = Vector<T, L::kSize>;
  __shared__ float room[kWarp];
  const int64_t index = int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
  if (index >= p.rows.batch * p.rows.heads * p.rows.queries) return;  // whole rows
  const ScoreRow row(p.rows, index);
  const T* weights_grad = static_cast<const T*>(p.weights_grad) + row.offset();
  Part grads[L::kParts];
#pragma unroll
  for (int part = 0; part < L::kParts; ++part) {
    const int at = key_of<L>(part);
    if (row.may_see(at, L::kSize)) {
      grads[part] = Part::load(weights_grad + at);
    } else {
#pragma unroll
      for (int i = 0; i < L::kSize; ++i) grads[part].values[i] = from_float<T>(0);
    }
  }
  float x[L::kParts][L::kSize];
  load_scores<L>(p, row, x);
  const float log_sum_exp = p.log_sum_exp[index];
  const float least = L::kIsSparse ? p.least[index] : -INFINITY;
  float along = 0;
#pragma unroll
  for (int part = 0; part < L::kParts; ++part) {
#pragma unroll
    for (int i = 0; i < L::kSize; ++i) {
      const bool is_left_out = L::kIsSparse && x[part][i] < least;
      x[part][i] = is_left_out ? 0.0f : power_of_2(fmaf(x[part][i], kLog2E, -log_sum_exp));
      along += x[part][i] * to_float(grads[part].values[i]);
    }
  }
  along = row_sum(along, room);
  T* scores_grad = static_cast<T*>(p.scores_grad) + row.offset();
#pragma unroll
  for (int part = 0; part < L::kParts; ++part) {
    const int at = key_of<L>(part);
    if (at >= p.rows.keys) break;
#pragma unroll
    for (int i = 0; i < L::kSize; ++i) x[part][i] *= to_float(grads[part].values[i]) - along;
    store_rounded<T>(x[part], scores_grad + at);
  }
}

template <class L>
void launch(const ScoreSoftmax& p, bool backward, cudaStream_t stream) {
  const auto warps = static_cast<unsigned>((p.rows.keys + L::kKeysOfAWarp - 1) / L::kKeysOfAWarp);
  const unsigned rows = warps == 1 ? kWarpsOfShortRows : 1;
  const int64_t count = p.rows.batch * p.rows.heads * p.rows.queries;
  const dim3 threads(warps * kWarp, rows);
  const auto blocks = static_cast<unsigned>((count + rows - 1) / rows);
  if (backward) {
    softmax_backward_kernel<L><<<blocks, threads, 0, stream>>>(p);
  } else {
    softmax_forward_kernel<L><<<blocks, threads, 0, stream>>>(p);
  }
}

bool has_vectors(const ScoreSoftmax& p, int size) {
  return p.rows.keys % size == 0 && is_aligned(p.scores) && is_aligned(p.weights) &&
         is_aligned(p.weights_grad) && is_aligned(p.scores_grad) && is_aligned(p.gate) &&
         p.gate_strides[0] % size == 0 && p.gate_strides[1] % size == 0;
}

template <class T, bool kIsSparse>
void launch_of(const ScoreSoftmax& p, bool backward, cudaStream_t stream) {
  constexpr int kVector = 16 / sizeof(T), kShort = 1024;
  constexpr int kThreadsOfShort = kWarpsOfShortRows * kWarp, kThreadsOfLong = 1024;
  if (!has_vectors(p, kVector)) {
    p.rows.keys <= kShort
        ? launch<Layout<T, 1, 32, kThreadsOfShort, kIsSparse>>(p, backward, stream)
        : launch<Layout<T, 1, 16, kThreadsOfLong, kIsSparse>>(p, backward, stream);
  } else if (p.rows.keys <= kShort / 4) {
    launch<Layout<T, kVector, 1, kThreadsOfShort, kIsSparse>>(p, backward, stream);
  } else if (p.rows.keys <= kShort / 2) {
    launch<Layout<T, kVector, 2, kThreadsOfShort, kIsSparse>>(p, backward, stream);
  } else if (p.rows.keys <= kShort) {
    launch<Layout<T, kVector, 4, kThreadsOfShort, kIsSparse>>(p, backward, stream);
  } else {
    launch<Layout<T, kVector, 2, kThreadsOfLong, kIsSparse>>(p, backward, stream);
  }
}

cudaError_t run(const ScoreSoftmax& p, bool backward, cudaStream_t stream) {
  if (p.rows.batch * p.rows.heads * p.rows.queries * p.rows.keys == 0) return cudaSuccess;
  const auto launch_numbers = [&](auto number) {
    using T = decltype(number);
    p.topk > 0 ? launch_of<T, true>(p, backward, stream) : launch_of<T, false>(p, backward, stream);
  };
  p.rows.element == Element::bfloat16 ? launch_numbers(__nv_bfloat16{}) : launch_numbers(__half{});
  return cudaGetLastError();
}

}  // namespace

cudaError_t score_softmax_forward(const ScoreSoftmax& params, cudaStream_t stream) {
  return run(params, false, stream);
}

cudaError_t score_softmax_backward(const ScoreSoftmax& params, cudaStream_t stream) {
  return run(params, true, stream);
}

}  // namespace x_transformers::kernels::cuda
