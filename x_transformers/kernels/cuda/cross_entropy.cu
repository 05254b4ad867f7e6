// A block has a row. It goes over the row once for the greatest logit and the sum of exponentials
// relative to it, kept up to date together, and once more for the gradient: the row is then still
// in the cache, so memory is read once and written once.
#include "x_transformers/kernels/cuda/cross_entropy.cuh"

#include <cmath>

#include "x_transformers/kernels/cuda/device/row_sum.cuh"
#include "x_transformers/kernels/cuda/device/vector.cuh"
#include "x_transformers/kernels/cuda/dispatch.cuh"

namespace x_transformers::kernels::cuda {
namespace {

constexpr int kThreads = 512;
constexpr float kInfinity = INFINITY;
constexpr float kNaN = NAN;

/// Of what is rounded to 16 bits, the shorter one.
template <class T>
__device__ float exp_for(float x) {
  return sizeof(T) == 2 ? __expf(x) : expf(x);
}

/// A sum of exponentials, relative to the greatest exponent.
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
    Vector<T, kSize> result;
#pragma unroll
    for (int i = 0; i < kSize; ++i) {
      const float share = exp_for<T>(values[i] - log_sum);
      const float wanted = (at + i == target ? share - 1.0f : share) * scale;
      result.values[i] = from_float<T>(counts ? wanted : 0.0f);
    }
    result.store(grad + at);
  });
}

}  // namespace

cudaError_t cross_entropy(const CrossEntropyPass& params, cudaStream_t stream) {
  if (params.rows == 0 || params.classes == 0) return cudaSuccess;
  with_element(params.element, [&](auto number) {
    using T = decltype(number);
    constexpr int kVector = 16 / sizeof(T);
    const auto blocks = static_cast<unsigned>(params.rows);
    const bool has_vectors =
        params.stride % kVector == 0 && is_aligned(params.logits) && is_aligned(params.logits_grad);
    if (has_vectors) {
      cross_entropy_kernel<T, kVector><<<blocks, kThreads, 0, stream>>>(params);
    } else {
      cross_entropy_kernel<T, 1><<<blocks, kThreads, 0, stream>>>(params);
    }
  });
  return cudaGetLastError();
}

}  // namespace x_transformers::kernels::cuda
