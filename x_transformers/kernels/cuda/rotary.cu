// A thread has a vector of features at one position, of some heads one after the other, and reads
// their cosines and sines once. Vectors are whole pairs; where they do not fit, a thread has one
// feature and looks at its partner.
#include "x_transformers/kernels/cuda/rotary.cuh"

#include <algorithm>

#include "x_transformers/kernels/cuda/device/vector.cuh"
#include "x_transformers/kernels/cuda/dispatch.cuh"

namespace x_transformers::kernels::cuda {
namespace {

constexpr int kThreads = 256;

/// Cosine and sine of a pair, with the scale in them and the sign of the direction.
struct Turn {
  float cos = 1, sin = 0;
  Turn() = default;
  __device__ Turn(const RotaryParams& p, int64_t at) {
    float factor = 1.0f;
    if (p.scale != nullptr) factor = p.inverse_scale ? 1.0f / p.scale[at] : p.scale[at];
    cos = p.cos[at] * factor;
    sin = (p.backwards ? -p.sin[at] : p.sin[at]) * factor;
  }
};

template <class T, int kSize>
__global__ void __launch_bounds__(kThreads) rotary_kernel(RotaryParams p, int heads_of_thread) {
  constexpr int kPairs = kSize == 1 ? 1 : kSize / 2;
  const int vectors = static_cast<int>(p.dim) / kSize;
  const int64_t index = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (index >= vectors * p.length) return;
  const int feature = static_cast<int>(index % vectors) * kSize;
  const int64_t place = index / vectors, entry = blockIdx.z;
  const T* x =
      static_cast<const T*>(p.x) + entry * p.x_strides[0] + place * p.x_strides[2] + feature;
  T* y = static_cast<T*>(p.y) + entry * p.y_strides[0] + place * p.y_strides[2] + feature;
  const bool is_rotated = feature < p.rotated;
  const int64_t row = entry * p.table_batch_stride + place * (p.rotated / 2) + feature / 2;
  Turn turns[kPairs];
  if (is_rotated) {
#pragma unroll
    for (int i = 0; i < kPairs; ++i) turns[i] = Turn(p, row + i);
  }
  const int first = blockIdx.y * heads_of_thread;
  const int end = min(first + heads_of_thread, static_cast<int>(p.heads));
#pragma unroll 4
  for (int head = first; head < end; ++head) {
    const T* from = x + head * p.x_strides[1];
    auto values = Vector<T, kSize>::load(from);
    if (is_rotated && kSize == 1) {
      const float mine = to_float(values.values[0]);
      const float other = feature % 2 == 0 ? -to_float(from[1]) : to_float(from[-1]);
      values.values[0] = from_float<T>(mine * turns[0].cos + other * turns[0].sin);
    } else if (is_rotated) {
#pragma unroll
      for (int i = 0; i + 1 < kSize; i += 2) {
        const Turn& turn = turns[i / 2];
        const float a = to_float(values.values[i]), b = to_float(values.values[i + 1]);
        values.values[i] = from_float<T>(a * turn.cos - b * turn.sin);
        values.values[i + 1] = from_float<T>(b * turn.cos + a * turn.sin);
      }
    }
    values.store(y + head * p.y_strides[1]);
  }
}

bool has_vectors(const RotaryParams& p, int size) {
  bool fits = p.dim % size == 0 && p.rotated % size == 0 && is_aligned(p.x) && is_aligned(p.y);
  for (int i = 0; i < 3; ++i)
    fits = fits && p.x_strides[i] % size == 0 && p.y_strides[i] % size == 0;
  return fits;
}

template <class T, int kSize>
void launch(const RotaryParams& params, cudaStream_t stream) {
  // Few positions: a thread for each head.
  constexpr int64_t kEnough = 132 * 2048, kMaxHeads = 8;
  const auto vectors = params.length * (params.dim / kSize);
  const auto all = vectors * params.batch * params.heads;
  const auto heads = std::min(kMaxHeads, std::max<int64_t>(1, all / kEnough));
  const dim3 blocks(static_cast<unsigned>((vectors + kThreads - 1) / kThreads),
                    static_cast<unsigned>((params.heads + heads - 1) / heads),
                    static_cast<unsigned>(params.batch));
  rotary_kernel<T, kSize><<<blocks, kThreads, 0, stream>>>(params, static_cast<int>(heads));
}

}  // namespace

cudaError_t rotary(const RotaryParams& params, cudaStream_t stream) {
  if (params.batch * params.heads * params.length * params.dim == 0) return cudaSuccess;
  with_element(params.element, [&](auto number) {
    using T = decltype(number);
    constexpr int kVector = 16 / sizeof(T);
    has_vectors(params, kVector) ? launch<T, kVector>(params, stream)
                                 : launch<T, 1>(params, stream);
  });
  return cudaGetLastError();
}

}  // namespace x_transformers::kernels::cuda
