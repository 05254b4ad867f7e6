// As many weights as a kernel's parameters hold are updated in one launch, each cut into parts of a
// block. Everything is read once and written once, the copy in low precision as well.
#include "x_transformers/kernels/cuda/adamw.cuh"

#include "x_transformers/kernels/cuda/device/vector.cuh"
#include "x_transformers/kernels/cuda/dispatch.cuh"

namespace x_transformers::kernels::cuda {
namespace {

constexpr int kThreads = 256, kNumbers = 4;
constexpr int64_t kPart = int64_t{kThreads} * kNumbers * 4;  ///< of a weight, of a block
constexpr int kMaxWeights = 400;

/// Of one launch. The size is bounded by the 32,764 bytes of a kernel's parameters.
struct Launch {
  AdamWWeight weights[kMaxWeights];
  int first_block[kMaxWeights];
  int count;
  const float *learning_rate, *divisor, *skipped;
  double beta1, beta2, weight_decay;
  float eps;
};
static_assert(sizeof(Launch) < 32764);

/// The last weight that begins at or before this block.
__device__ int weight_of_block(const Launch& p, int block) {
  int low = 0, high = p.count - 1;
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (p.first_block[middle] <= block) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

/// What all numbers of a weight share.
struct Factors {
  float decay, size, root, divisor;
};

/// Some numbers of a weight, as they are held in registers.
template <class G, class C, int kSize>
struct Numbers {
  Vector<float, kSize> weight, mean, square;
  Vector<G, kSize> gradient;

  __device__ Numbers(const AdamWWeight& w, int64_t at)
      : weight(Vector<float, kSize>::load(w.weight + at)),
        mean(Vector<float, kSize>::load(w.exp_avg + at)),
        square(Vector<float, kSize>::load(w.exp_avg_sq + at)),
        gradient(Vector<G, kSize>::load(static_cast<const G*>(w.gradient) + at)) {}

  __device__ void update(const Launch& p, const Factors& f) {
    const float beta1 = static_cast<float>(p.beta1), beta2 = static_cast<float>(p.beta2);
    const float rest1 = static_cast<float>(1.0 - p.beta1),
                rest2 = static_cast<float>(1.0 - p.beta2);
#pragma unroll
    for (int i = 0; i < kSize; ++i) {
      const float g = to_float(gradient.values[i]) / f.divisor;
      mean.values[i] = mean.values[i] * beta1 + g * rest1;
      square.values[i] = square.values[i] * beta2 + g * g * rest2;
      const float root = sqrtf(square.values[i]) / f.root + p.eps;
      weight.values[i] = weight.values[i] * f.decay - f.size * mean.values[i] / root;
    }
  }

  __device__ void store(const AdamWWeight& w, int64_t at) const {
    weight.store(w.weight + at);
    mean.store(w.exp_avg + at);
    square.store(w.exp_avg_sq + at);
    if (w.copy == nullptr) return;
    Vector<C, kSize> copy;
#pragma unroll
    for (int i = 0; i < kSize; ++i) copy.values[i] = from_float<C>(weight.values[i]);
    copy.store(static_cast<C*>(w.copy) + at);
  }
};

template <class G, class C, int kSize>
__device__ void update(const Launch& p, const AdamWWeight& w, const Factors& f, int64_t at) {
  Numbers<G, C, kSize> numbers(w, at);
  numbers.update(p, f);
  numbers.store(w, at);
}

template <class G, class C, int kSize>
__device__ void update_two(const Launch& p, const AdamWWeight& w, const Factors& f, int64_t first,
                           int64_t second) {
  Numbers<G, C, kSize> one(w, first), other(w, second);
  one.update(p, f);
  other.update(p, f);
  one.store(w, first);
  other.store(w, second);
}

__device__ bool has_vectors(const AdamWWeight& w) {
  const auto all = reinterpret_cast<uintptr_t>(w.weight) | reinterpret_cast<uintptr_t>(w.exp_avg) |
                   reinterpret_cast<uintptr_t>(w.exp_avg_sq) |
                   reinterpret_cast<uintptr_t>(w.gradient) | reinterpret_cast<uintptr_t>(w.copy);
  return all % 16 == 0;
}

template <class G, class C>
__global__ void __launch_bounds__(kThreads) adamw_kernel(const __grid_constant__ Launch p) {
  __shared__ Factors shared;
  const int block = static_cast<int>(blockIdx.x), index = weight_of_block(p, block);
  const AdamWWeight& w = p.weights[index];
  if (p.skipped != nullptr && *p.skipped == 1.0f) return;
  if (threadIdx.x == 0) {
    const double rate = *p.learning_rate, step = *w.step;
    shared.decay = static_cast<float>(1.0 - rate * p.weight_decay);
    shared.size = static_cast<float>(rate / (1.0 - pow(p.beta1, step)));
    shared.root = static_cast<float>(sqrt(1.0 - pow(p.beta2, step)));
    shared.divisor = p.divisor != nullptr ? *p.divisor : 1.0f;
  }
  __syncthreads();
  const Factors factors = shared;
  const int64_t begin = (block - p.first_block[index]) * kPart;
  const int64_t end = begin + kPart < w.size ? begin + kPart : w.size;
  int64_t at = begin;
  if (has_vectors(w)) {
    // Two vectors at a time, so that the reads of both are on their way together.
    constexpr int kApart = kThreads * kNumbers;
    for (at += threadIdx.x * kNumbers; at + kApart + kNumbers <= end; at += 2 * kApart)
      update_two<G, C, kNumbers>(p, w, factors, at, at + kApart);
    for (; at + kNumbers <= end; at += kApart) update<G, C, kNumbers>(p, w, factors, at);
    at = end - (end - begin) % kNumbers;  // fewer than kNumbers are left
  }
  for (at += threadIdx.x; at < end; at += kThreads) update<G, C, 1>(p, w, factors, at);
}

template <class G, class C>
void launch(const Launch& p, int blocks, cudaStream_t stream) {
  adamw_kernel<G, C><<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(p);
}

void launch(const AdamWStep& params, const Launch& p, int blocks, cudaStream_t stream) {
  with_element(params.gradient, [&](auto gradient) {
    with_element(params.copy,
                 [&](auto copy) { launch<decltype(gradient), decltype(copy)>(p, blocks, stream); });
  });
}

}  // namespace

cudaError_t adamw(const AdamWStep& params, cudaStream_t stream) {
  constexpr int64_t kMaxBlocks = int64_t{1} << 30;
  Launch p;
  p.learning_rate = params.learning_rate;
  p.divisor = params.divisor;
  p.skipped = params.skipped;
  p.beta1 = params.beta1;
  p.beta2 = params.beta2;
  p.weight_decay = params.weight_decay;
  p.eps = static_cast<float>(params.eps);
  p.count = 0;
  int64_t blocks = 0;
  const auto flush = [&] {
    if (p.count > 0) launch(params, p, static_cast<int>(blocks), stream);
    p.count = 0;
    blocks = 0;
    return cudaGetLastError();
  };
  for (int64_t i = 0; i < params.count; ++i) {
    const auto& weight = params.weights[i];
    if (weight.size == 0) continue;
    const auto parts = (weight.size + kPart - 1) / kPart;
    if (p.count == kMaxWeights || blocks + parts > kMaxBlocks) {
      if (const auto error = flush(); error != cudaSuccess) return error;
    }
    p.weights[p.count] = weight;
    p.first_block[p.count] = static_cast<int>(blocks);
    ++p.count;
    blocks += parts;
  }
  return flush();
}

}  // namespace x_transformers::kernels::cuda
