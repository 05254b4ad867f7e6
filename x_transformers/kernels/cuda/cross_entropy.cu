// A block goes over a row for the maximum logit and the sum of exponentials relative to it, and
// once more for the gradient. Where two rows fit into the shared memory of a multiprocessor, it has
// a block that computes with one row while the next is copied there, and memory is read once and
// written once. Longer rows have a block each, and some are in the cache when they are read again.
#include "x_transformers/kernels/cuda/cross_entropy.cuh"

#include <algorithm>
#include <cmath>

#include "x_transformers/kernels/cuda/device/async_copy.cuh"
#include "x_transformers/kernels/cuda/device/packed.cuh"
#include "x_transformers/kernels/cuda/device/row_sum.cuh"
#include "x_transformers/kernels/cuda/device/vector.cuh"
#include "x_transformers/kernels/cuda/dispatch.cuh"

namespace x_transformers::kernels::cuda {
namespace {

constexpr int kThreads = 512;
/// Of rows in shared memory.
constexpr int kThreadsOfShared = kWarp * kWarp, kMaxBytesOfRow = 112 * 1024, kMultiprocessors = 132;
constexpr float kInfinity = INFINITY;
constexpr float kNaN = NAN;

/// Of what is rounded to 16 bits, the shorter one.
template <class T>
__device__ float exp_for(float x) {
  return sizeof(T) == 2 ? __expf(x) : expf(x);
}

/// A sum of exponentials, relative to the maximum exponent.
struct ExpSum {
  float most = -kInfinity;
  float sum = 0;

  __device__ void add(const ExpSum& other) {
    const float greater = fmaxf(most, other.most);
    if (greater == -kInfinity) {
      sum += other.sum;  // nothing yet, or no number
      return;
    }
    sum = sum * expf(most - greater) + other.sum * expf(other.most - greater);
    most = greater;
  }
  __device__ float log_sum() const { return most + logf(sum); }
};

/// Adds numbers to a sum; a NaN makes the sum one.
template <class T, int kSize>
__device__ void add_numbers(ExpSum& total, const float (&values)[kSize]) {
  float most = total.most;
#pragma unroll
  for (int i = 0; i < kSize; ++i) most = fmaxf(most, values[i]);
  const float base = most == -kInfinity ? 0.0f : most;
  float sum = total.sum == 0 ? 0.0f : total.sum * exp_for<T>(total.most - base);
#pragma unroll
  for (int i = 0; i < kSize; ++i) sum += exp_for<T>(values[i] - base);
  total = {most, sum};
}

__device__ ExpSum over_block(ExpSum mine) {
  __shared__ ExpSum room[kThreads / kWarp];
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    mine.add({__shfl_xor_sync(0xffffffffu, mine.most, offset),
              __shfl_xor_sync(0xffffffffu, mine.sum, offset)});
  }
  if (threadIdx.x % kWarp == 0) room[threadIdx.x / kWarp] = mine;
  __syncthreads();
  ExpSum all = room[0];
  for (int warp = 1; warp < kThreads / kWarp; ++warp) all.add(room[warp]);
  return all;
}

/// body(first class, numbers) for the vectors of a row up to `end` that this thread has. Four are
/// read before the first is used, so that they are on their way together.
template <class T, int kSize, class Body>
__device__ void for_vectors(const T* row, int64_t end, const Body& body) {
  constexpr int kTogether = 4;
  constexpr int64_t kApart = int64_t{kThreads} * kSize;
  for (int64_t at = int64_t{threadIdx.x} * kSize; at < end; at += kTogether * kApart) {
    Vector<T, kSize> loaded[kTogether];
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      if (at + i * kApart < end) loaded[i] = Vector<T, kSize>::load(row + at + i * kApart);
    }
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      if (at + i * kApart < end) body(at + i * kApart, loaded[i]);
    }
  }
}

/// The logits at, at + 1, ...; minus infinity behind the last class.
template <class T, int kSize>
__device__ void to_logits(const Vector<T, kSize>& loaded, int64_t at, int64_t classes,
                          float (&values)[kSize]) {
#pragma unroll
  for (int i = 0; i < kSize; ++i)
    values[i] = at + i < classes ? to_float(loaded.values[i]) : -kInfinity;
}

/// (softmax - one_hot) * scale of some logits of a row that counts.
template <class T, int kSize>
__device__ Vector<T, kSize> gradient_of(const float (&values)[kSize], int64_t at, int64_t target,
                                        float log_sum, float scale) {
  Vector<T, kSize> result;
#pragma unroll
  for (int i = 0; i < kSize; ++i) {
    const float share = exp_for<T>(values[i] - log_sum);
    result.values[i] = from_float<T>((at + i == target ? share - 1.0f : share) * scale);
  }
  return result;
}

template <class T, int kSize>
__global__ void __launch_bounds__(kThreads) cross_entropy_kernel(CrossEntropyPass p) {
  const int64_t row = blockIdx.x;
  const T* logits = static_cast<const T*>(p.logits) + row * p.stride;
  const int64_t target = p.target[row];
  const bool counts = target != p.ignore_index, is_class = target >= 0 && target < p.classes;
  // The target's logit, read before it may be overwritten.
  const float chosen = counts && is_class ? to_float(logits[target]) : 0.0f;

  float log_sum = 0;
  if (p.is_known) {
    log_sum = p.log_sum_exp[row];
  } else if (counts || p.log_sum_exp != nullptr) {
    ExpSum sum;
    for_vectors<T, kSize>(logits, p.classes, [&](int64_t at, const Vector<T, kSize>& loaded) {
      float values[kSize];
      to_logits(loaded, at, p.classes, values);
      add_numbers<T>(sum, values);
    });
    log_sum = over_block(sum).log_sum();
  }
  if (threadIdx.x == 0) {
    if (p.losses != nullptr) p.losses[row] = !counts ? 0.0f : is_class ? log_sum - chosen : kNaN;
    if (p.log_sum_exp != nullptr && !p.is_known) p.log_sum_exp[row] = log_sum;
  }
  if (p.logits_grad == nullptr) return;
  __syncthreads();  // every thread has read `chosen`

  const float scale = counts ? p.scale[p.scale_of_row ? row : 0] : 0.0f;
  T* grad = static_cast<T*>(p.logits_grad) + row * p.stride;
  for_vectors<T, kSize>(logits, p.stride, [&](int64_t at, const Vector<T, kSize>& loaded) {
    float values[kSize];
    to_logits(loaded, at, p.classes, values);
    const auto gradient = gradient_of<T>(values, at, target, log_sum, scale);
    (counts ? gradient : Vector<T, kSize>{}).store(grad + at);
  });
}

/// join(...) of the numbers of all threads of a block of kWarp warps, in each; `room` is read until
/// they meet again.
template <class Join>
__device__ float of_block(float x, float (&room)[kWarp], const Join& join) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2)
    x = join(x, __shfl_xor_sync(0xffffffffu, x, offset));
  if (threadIdx.x % kWarp == 0) room[threadIdx.x / kWarp] = x;
  __syncthreads();
  x = room[threadIdx.x % kWarp];
  for (int offset = kWarp / 2; offset > 0; offset /= 2)
    x = join(x, __shfl_xor_sync(0xffffffffu, x, offset));
  return x;
}

/// 2 ** x, within a few digits of float32.
__device__ inline float short_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// exp(x - base) for many x: of 16 bits by one multiplication and addition before it.
template <class T>
struct ExpAbove {
  static constexpr float kLog2E = 1.4426950408889634f;
  float base;
  __device__ explicit ExpAbove(float from) : base(sizeof(T) == 2 ? from * kLog2E : from) {}
  __device__ float operator()(float x) const {
    return sizeof(T) == 2 ? short_exp2(fmaf(x, kLog2E, -base)) : expf(x - base);
  }
};

/// Losses and gradients of rows that come into shared memory one after the other. A thread computes
/// with what it has copied itself, but for the logit of the target.
template <class T, int kSize>
__global__ void __launch_bounds__(kThreadsOfShared) cross_entropy_rows_kernel(CrossEntropyPass p) {
  using Part = Packed<T, kSize>;
  extern __shared__ uint4 shared_rows[];
  __shared__ float room[2][kWarp];
  constexpr int kApart = kThreadsOfShared * kSize;
  const int classes = static_cast<int>(p.classes), stride = static_cast<int>(p.stride);
  const int first = static_cast<int>(threadIdx.x) * kSize;
  const auto is_read = [&](int64_t row) {
    return p.target[row] != p.ignore_index || p.log_sum_exp != nullptr;
  };
  const auto kept_at = [&](int slot) { return reinterpret_cast<T*>(shared_rows) + slot * stride; };
  const auto fetch = [&](int64_t row, int slot) {
    if (row < p.rows && is_read(row)) {
      const T* logits = static_cast<const T*>(p.logits) + row * p.stride;
      for (int at = first; at < stride; at += kApart)
        copy_chunk(kept_at(slot) + at, logits + at, true);
    }
    end_copies();
  };
  // body(at, values) for the vectors of this thread; behind the last class minus infinity.
  const auto for_kept = [&](const T* kept, const auto& body) {
    for (int at = first; at < stride; at += kApart) {
      float values[kSize];
      Part::load(kept + at).unpack(values);
      if (at + kSize > classes) {
#pragma unroll
        for (int i = 0; i < kSize; ++i) values[i] = at + i < classes ? values[i] : -kInfinity;
      }
      body(at, values);
    }
  };
  fetch(blockIdx.x, 0);
  int slot = 0;
  for (int64_t row = blockIdx.x; row < p.rows; row += gridDim.x, slot ^= 1) {
    __syncthreads();  // nobody reads the row before any more, which the next one replaces
    fetch(row + gridDim.x, slot ^ 1);
    T* grad = static_cast<T*>(p.logits_grad) + row * p.stride;
    const T* kept = kept_at(slot);
    const int64_t target = p.target[row];
    const bool counts = target != p.ignore_index, is_class = target >= 0 && target < classes;
    if (!is_read(row)) {
      for (int at = first; at < stride; at += kApart) Part{}.store(grad + at);
      if (threadIdx.x == 0 && p.losses != nullptr) p.losses[row] = 0.0f;
      // The threads meet in every row as often.
    }
    wait_for_copies_but<1>();
    if (!is_read(row)) continue;
    float most = -kInfinity, sum = 0;
    for_kept(kept, [&](int, const float(&values)[kSize]) {
#pragma unroll
      for (int i = 0; i < kSize; ++i) most = fmaxf(most, values[i]);
    });
    most = of_block(most, room[0], [](float a, float b) { return fmaxf(a, b); });
    const ExpAbove<T> above_most(most == -kInfinity ? 0.0f : most);
    for_kept(kept, [&](int, const float(&values)[kSize]) {
#pragma unroll
      for (int i = 0; i < kSize; ++i) sum += above_most(values[i]);
    });
    sum = of_block(sum, room[1], [](float a, float b) { return a + b; });
    const float log_sum = most + logf(sum);
    if (threadIdx.x == 0) {
      const float chosen = counts && is_class ? to_float(kept[target]) : 0.0f;
      if (p.losses != nullptr) p.losses[row] = !counts ? 0.0f : is_class ? log_sum - chosen : kNaN;
      if (p.log_sum_exp != nullptr) p.log_sum_exp[row] = log_sum;
    }
    const float scale = counts ? p.scale[p.scale_of_row ? row : 0] : 0.0f;
    const ExpAbove<T> above_sum(log_sum);
    for_kept(kept, [&](int at, float(&values)[kSize]) {
#pragma unroll
      for (int i = 0; i < kSize; ++i) values[i] = counts ? above_sum(values[i]) * scale : 0.0f;
      Part::pack(values).store(grad + at);
      if (counts && is_class && target >= at && target < at + kSize) {
        const float share = above_sum(to_float(kept[target]));
        grad[target] = from_float<T>((share - 1.0f) * scale);
      }
    });
  }
}

template <class T, int kSize>
void launch(const CrossEntropyPass& params, cudaStream_t stream) {
  const int64_t bytes = params.stride * static_cast<int64_t>(sizeof(T));
  if constexpr (kSize > 1) {
    if (bytes <= kMaxBytesOfRow && params.logits_grad != nullptr && !params.is_known) {
      const auto kernel = cross_entropy_rows_kernel<T, kSize>;
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 2 * kMaxBytesOfRow);
      const auto blocks = static_cast<unsigned>(std::min<int64_t>(params.rows, kMultiprocessors));
      kernel<<<blocks, kThreadsOfShared, static_cast<size_t>(2 * bytes), stream>>>(params);
      return;
    }
  }
  cross_entropy_kernel<T, kSize>
      <<<static_cast<unsigned>(params.rows), kThreads, 0, stream>>>(params);
}

}  // namespace

cudaError_t cross_entropy(const CrossEntropyPass& params, cudaStream_t stream) {
  if (params.rows == 0 || params.classes == 0) return cudaSuccess;
  with_element(params.element, [&](auto number) {
    using T = decltype(number);
    constexpr int kVector = 16 / sizeof(T);
    const bool has_vectors =
        params.stride % kVector == 0 && is_aligned(params.logits) && is_aligned(params.logits_grad);
    has_vectors ? launch<T, kVector>(params, stream) : launch<T, 1>(params, stream);
  });
  return cudaGetLastError();
}

}  // namespace x_transformers::kernels::cuda
