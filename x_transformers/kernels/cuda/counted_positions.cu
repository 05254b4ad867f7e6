// A warp goes along a row 32 vectors at a time, from the last visible key back, as it needs the sum
// of the gates behind. Once that reaches the last position, all keys before have it too, and their
// scores get a constant: gates are made only of what is behind. The gradient goes on from there to
// the end of the row, as a gate asks for what the positions before it ask for. Each lane adds to
// the gradient of the table in memory of its own, which is joined at the end of the row.
#include "x_transformers/kernels/cuda/device/row_sum.cuh"
#include "x_transformers/kernels/cuda/device/vector.cuh"
#include "x_transformers/kernels/cuda/dispatch.cuh"
#include "x_transformers/kernels/cuda/score_matrix.cuh"
#include "x_transformers/kernels/cuda/score_rows.cuh"

namespace x_transformers::kernels::cuda {
namespace {

constexpr int kWarps = 4;                 ///< of a block, fewer for large tables
constexpr int kSharedFloats = 12 * 1024;  ///< of a block
static_assert(kMaxCountedPositions * (kWarp + 1) <= kSharedFloats);

__device__ float sigmoid(float x) { return __fdividef(1.0f, 1.0f + __expf(-x)); }

/// The sum of lanes before this one.
__device__ float sum_of_earlier(float x) {
  const int lane = threadIdx.x;
  float sum = x;
  for (int offset = 1; offset < kWarp; offset *= 2) {
    const float earlier = __shfl_up_sync(0xffffffffu, sum, offset);
    if (lane >= offset) sum += earlier;
  }
  return sum - x;
}
/// The sum of lanes after this one.
__device__ float sum_of_later(float x) {
  const int lane = threadIdx.x;
  float sum = x;
  for (int offset = 1; offset < kWarp; offset *= 2) {
    const float later = __shfl_down_sync(0xffffffffu, sum, offset);
    if (lane + offset < kWarp) sum += later;
  }
  return sum - x;
}

/// Where a position lies between two of a table.
struct Between {
  int below, above;
  float weight;  ///< of the one above

  __device__ Between(float position, int positions) {
    position = fminf(fmaxf(position, 0.0f), static_cast<float>(positions - 1));
    below = static_cast<int>(position);
    above = min(below + 1, positions - 1);
    weight = position - static_cast<float>(below);
  }
};

/// The gates of the vector at `at`; 0 where hidden or outside.
template <class T, int kSize>
__device__ void load_gates(const ScoreRow& row, const T* scores, int at, float (&x)[kSize],
                           float (&gates)[kSize]) {
#pragma unroll
  for (int i = 0; i < kSize; ++i) x[i] = gates[i] = 0;
  if (!row.may_see(at, kSize)) return;
  const auto loaded = Vector<T, kSize>::load(scores + at);
  const bool sees_all = row.sees_all(at, kSize);
#pragma unroll
  for (int i = 0; i < kSize; ++i) {
    x[i] = to_float(loaded.values[i]);
    gates[i] = sees_all || row.sees(at + i) ? sigmoid(x[i]) : 0.0f;
  }
}

/// The gradient of what is visible, else 0.
template <class T, int kSize>
__device__ void load_gradient(const ScoreRow& row, const T* grads, int at, float (&grad)[kSize]) {
#pragma unroll
  for (int i = 0; i < kSize; ++i) grad[i] = 0;
  if (!row.may_see(at, kSize)) return;
  const auto loaded = Vector<T, kSize>::load(grads + at);
  const bool sees_all = row.sees_all(at, kSize);
#pragma unroll
  for (int i = 0; i < kSize; ++i)
    grad[i] = sees_all || row.sees(at + i) ? to_float(loaded.values[i]) : 0.0f;
}

template <class T, int kSize>
__global__ void __launch_bounds__(kWarps* kWarp) counted_positions_kernel(CountedPositions p) {
  extern __shared__ float memory[];
  const auto positions = static_cast<int>(p.positions);
  const auto last = static_cast<float>(positions - 1);
  float* table = memory + threadIdx.y * positions;
  const int64_t index = int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
  if (index >= p.rows.batch * p.rows.heads * p.rows.queries) return;  // whole warps
  const ScoreRow row(p.rows, index);
  const T* of_row = static_cast<const T*>(p.table) + index * positions;
  for (int i = threadIdx.x; i < positions; i += kWarp) table[i] = to_float(of_row[i]);
  __syncwarp();
  const T* scores = static_cast<const T*>(p.scores) + row.offset();
  T* sums = static_cast<T*>(p.sums) + row.offset();
  constexpr int kStep = kWarp * kSize;
  int at = (row.end() + kStep - 1) / kStep * kStep + static_cast<int>(threadIdx.x) * kSize;
  float behind = 0;  // the gates of all keys from this step on
  while (at >= kStep && !(behind >= last)) {
    at -= kStep;
    float x[kSize], gates[kSize];
    load_gates<T, kSize>(row, scores, at, x, gates);
    float own = 0;
#pragma unroll
    for (int i = 0; i < kSize; ++i) own += gates[i];
    float position = behind + sum_of_later(own);
    behind += warp_sum(own);
    if (!row.may_see(at, kSize)) continue;
#pragma unroll
    for (int i = kSize - 1; i >= 0; --i) {
      position += gates[i];
      const Between place(position, positions);
      const float low = table[place.below], high = table[place.above];
      x[i] += low + (high - low) * place.weight;
    }
    store_rounded<T>(x, sums + at);
  }
  const float of_last = table[positions - 1];
#pragma unroll 2
  for (at -= kStep; at >= 0; at -= kStep) {
    if (!row.may_see(at, kSize)) continue;
    const auto loaded = Vector<T, kSize>::load(scores + at);
    float x[kSize];
#pragma unroll
    for (int i = 0; i < kSize; ++i) x[i] = to_float(loaded.values[i]) + of_last;
    store_rounded<T>(x, sums + at);
  }
}

/// A position's gradient is the slope of the table there, and goes to the gates of all keys from
/// its own on.
template <class T, int kSize>
__global__ void __launch_bounds__(kWarps* kWarp)
    counted_positions_backward_kernel(CountedPositions p) {
  extern __shared__ float memory[];
  const auto positions = static_cast<int>(p.positions);
  const auto last = static_cast<float>(positions - 1);
  float* table = memory + threadIdx.y * positions * (kWarp + 1);
  float* grads = table + positions;  // [positions][lanes]
  const int64_t index = int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
  if (index >= p.rows.batch * p.rows.heads * p.rows.queries) return;  // whole warps
  const ScoreRow row(p.rows, index);
  const int lane = threadIdx.x;
  const T* of_row = static_cast<const T*>(p.table) + index * positions;
  for (int i = lane; i < positions; i += kWarp) table[i] = to_float(of_row[i]);
  for (int i = 0; i < positions; ++i) grads[i * kWarp + lane] = 0;
  __syncwarp();
  const T* scores = static_cast<const T*>(p.scores) + row.offset();
  const T* sums_grad = static_cast<const T*>(p.sums_grad) + row.offset();
  T* scores_grad = static_cast<T*>(p.scores_grad) + row.offset();
  const auto keys = static_cast<int>(p.rows.keys);
  constexpr int kStep = kWarp * kSize;
  int start = (row.end() + kStep - 1) / kStep * kStep;  // keys before it have the last position
  float left = 0;                                       // the gates from it on
  while (start > 0 && !(left >= last)) {
    start -= kStep;
    float x[kSize], gates[kSize], own = 0;
    load_gates<T, kSize>(row, scores, start + lane * kSize, x, gates);
#pragma unroll
    for (int i = 0; i < kSize; ++i) own += gates[i];
    left += warp_sum(own);
  }
  float of_last = 0;  // of the table
#pragma unroll 2
  for (int at = lane * kSize; at < start; at += kStep) {
    float grad[kSize];
    load_gradient<T, kSize>(row, sums_grad, at, grad);
#pragma unroll
    for (int i = 0; i < kSize; ++i) of_last += grad[i];
    if (scores_grad != sums_grad) store_rounded<T>(grad, scores_grad + at);
  }
  float asked = 0;  // the gradients of all positions before this step
  for (; start < keys; start += kStep) {
    const int at = start + lane * kSize;
    float x[kSize], gates[kSize], grad[kSize], slopes[kSize];
    load_gates<T, kSize>(row, scores, at, x, gates);
    load_gradient<T, kSize>(row, sums_grad, at, grad);
    float own = 0, own_slopes = 0;
#pragma unroll
    for (int i = 0; i < kSize; ++i) own += gates[i];
    float position = left - sum_of_earlier(own);
    left -= warp_sum(own);
#pragma unroll
    for (int i = 0; i < kSize; ++i) {
      slopes[i] = 0;
      if (position >= last) {
        of_last += grad[i];
      } else if (grad[i] != 0) {
        const Between place(position, positions);
        grads[place.above * kWarp + lane] += grad[i] * place.weight;
        grads[place.below * kWarp + lane] += grad[i] * (1.0f - place.weight);
        slopes[i] = grad[i] * (table[place.above] - table[place.below]);
      }
      own_slopes += slopes[i];
      position -= gates[i];
    }
    float total = asked + sum_of_earlier(own_slopes);
    asked += warp_sum(own_slopes);
    if (at >= keys) continue;
#pragma unroll
    for (int i = 0; i < kSize; ++i) {
      total += slopes[i];
      grad[i] += total * gates[i] * (1.0f - gates[i]);
    }
    store_rounded<T>(grad, scores_grad + at);
  }
  grads[(positions - 1) * kWarp + lane] += of_last;
  __syncwarp();
  T* table_grad = static_cast<T*>(p.table_grad) + index * positions;
  for (int i = lane; i < positions; i += kWarp) {
    float sum = 0;
#pragma unroll
    for (int of = 0; of < kWarp; ++of) sum += grads[i * kWarp + (of + lane) % kWarp];
    table_grad[i] = from_float<T>(sum);
  }
}

template <class T, int kSize>
void launch(const CountedPositions& p, bool backward, cudaStream_t stream) {
  const int64_t rows = p.rows.batch * p.rows.heads * p.rows.queries;
  const int64_t floats = p.positions * (backward ? kWarp + 1 : 1);
  int64_t warps = kWarps;
  while (warps > 1 && warps * floats > kSharedFloats) warps /= 2;
  const auto bytes = static_cast<size_t>(warps * floats) * sizeof(float);
  const auto blocks = static_cast<unsigned>((rows + warps - 1) / warps);
  const dim3 threads(kWarp, static_cast<unsigned>(warps));
  if (backward) {
    counted_positions_backward_kernel<T, kSize><<<blocks, threads, bytes, stream>>>(p);
  } else {
    counted_positions_kernel<T, kSize><<<blocks, threads, bytes, stream>>>(p);
  }
}

cudaError_t run(const CountedPositions& p, bool backward, cudaStream_t stream) {
  if (p.rows.batch * p.rows.heads * p.rows.queries * p.rows.keys == 0) return cudaSuccess;
  const auto launch_of = [&](auto number) {
    using T = decltype(number);
    constexpr int kVector = 16 / sizeof(T);
    const bool has_vectors = p.rows.keys % kVector == 0 && is_aligned(p.scores) &&
                             is_aligned(p.sums) && is_aligned(p.sums_grad) &&
                             is_aligned(p.scores_grad);
    has_vectors ? launch<T, kVector>(p, backward, stream) : launch<T, 1>(p, backward, stream);
  };
  p.rows.element == Element::bfloat16 ? launch_of(__nv_bfloat16{}) : launch_of(__half{});
  return cudaGetLastError();
}

}  // namespace

cudaError_t counted_positions_forward(const CountedPositions& params, cudaStream_t stream) {
  return run(params, false, stream);
}

cudaError_t counted_positions_backward(const CountedPositions& params, cudaStream_t stream) {
  return run(params, true, stream);
}

}  // namespace x_transformers::kernels::cuda
