// A thread has eight features of a head at a position. Where all batch entries have the same angles
// it goes over the entries, so that cosines and sines are computed once, and the gradient of the
// angles is a sum of its own.
#include "x_transformers/kernels/cuda/polar.cuh"

#include "x_transformers/kernels/cuda/device/packed.cuh"

namespace x_transformers::kernels::cuda {
namespace {

constexpr int kThreads = 256, kSize = 8;

struct Turn {
  float cos[kSize], sin[kSize];
};

__device__ Turn turn_of(const float* angles) {
  Turn turn;
#pragma unroll
  for (int i = 0; i < kSize; ++i) sincosf(angles[i], &turn.sin[i], &turn.cos[i]);
  return turn;
}

/// As LibTorch's: the number itself above 20.
__device__ float softplus(float x) { return x > 20.0f ? x : log1pf(expf(x)); }
__device__ float softplus_slope(float x) { return x > 20.0f ? 1.0f : 1.0f / (1.0f + expf(-x)); }

__device__ int64_t place(const HeadsOfTokens& t, int64_t entry, int64_t head, int64_t at) {
  return entry * t.strides[0] + head * t.strides[1] + at * t.strides[2];
}

template <class T>
__device__ void go_forward(const PolarPass& p, const Turn& turn, int64_t from, int64_t to) {
  using Part = Packed<T, kSize>;
  float t[kSize], even[kSize], odd[kSize];
  Part::load(static_cast<const T*>(p.t.data) + from).unpack(t);
#pragma unroll
  for (int i = 0; i < kSize; ++i) {
    const float radius = softplus(t[i]);
    even[i] = radius * turn.cos[i];
    odd[i] = radius * turn.sin[i];
  }
  T* y = static_cast<T*>(p.y.data) + to;
  Part::pack(even).store(y);
  Part::pack(odd).store(y + p.dim);
}

/// Adds to what the angles get.
template <class T>
__device__ void go_backward(const PolarPass& p, const Turn& turn, int64_t from, int64_t from_grad,
                            int64_t to, float (&angles_grad)[kSize]) {
  using Part = Packed<T, kSize>;
  float t[kSize], even[kSize], odd[kSize];
  const T* y_grad = static_cast<const T*>(p.y_grad.data) + from_grad;
  Part::load(static_cast<const T*>(p.t.data) + from).unpack(t);
  Part::load(y_grad).unpack(even);
  Part::load(y_grad + p.dim).unpack(odd);
#pragma unroll
  for (int i = 0; i < kSize; ++i) {
    angles_grad[i] += softplus(t[i]) * (odd[i] * turn.cos[i] - even[i] * turn.sin[i]);
    t[i] = softplus_slope(t[i]) * (even[i] * turn.cos[i] + odd[i] * turn.sin[i]);
  }
  Part::pack(t).store(static_cast<T*>(p.t_grad.data) + to);
}

template <class T>
__global__ void __launch_bounds__(kThreads) polar_kernel(PolarPass p) {
  const int vectors = static_cast<int>(p.dim) / kSize;
  const int64_t index = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (index >= vectors * p.length) return;
  const int feature = static_cast<int>(index % vectors) * kSize;
  const int64_t at = index / vectors, head = blockIdx.y;
  // One entry of those that blockIdx.z counts, or all.
  const bool all = p.angles.strides[0] == 0;
  const int64_t first = all ? 0 : blockIdx.z, end = all ? p.batch : first + 1;
  const int64_t angles = place(p.angles, first, head, at) + feature;
  const Turn turn = turn_of(static_cast<const float*>(p.angles.data) + angles);
  float angles_grad[kSize] = {};
#pragma unroll 2
  for (int64_t entry = first; entry < end; ++entry) {
    const int64_t from = place(p.t, entry, head, at) + feature;
    if (p.y_grad.data == nullptr) {
      go_forward<T>(p, turn, from, place(p.y, entry, head, at) + feature);
    } else {
      go_backward<T>(p, turn, from, place(p.y_grad, entry, head, at) + feature,
                     place(p.t_grad, entry, head, at) + feature, angles_grad);
    }
  }
  if (p.angles_grad == nullptr) return;
#pragma unroll
  for (int i = 0; i < kSize; ++i) p.angles_grad[angles + i] = angles_grad[i];
}

template <class T>
void launch(const PolarPass& params, cudaStream_t stream) {
  const auto vectors = params.length * (params.dim / kSize);
  const auto entries = params.angles.strides[0] == 0 ? 1 : params.batch;
  const dim3 blocks(static_cast<unsigned>((vectors + kThreads - 1) / kThreads),
                    static_cast<unsigned>(params.heads), static_cast<unsigned>(entries));
  polar_kernel<T><<<blocks, kThreads, 0, stream>>>(params);
}

}  // namespace

cudaError_t polar(const PolarPass& params, cudaStream_t stream) {
  if (params.batch * params.heads * params.length * params.dim == 0) return cudaSuccess;
  params.element == Element::float16 ? launch<__half>(params, stream)
                                     : launch<__nv_bfloat16>(params, stream);
  return cudaGetLastError();
}

}  // namespace x_transformers::kernels::cuda
