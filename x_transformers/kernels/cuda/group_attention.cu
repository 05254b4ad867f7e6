// One pass over memory each; numbers are float32 in registers.
#include "x_transformers/kernels/cuda/group_attention.cuh"

#include <type_traits>

#include "x_transformers/kernels/cuda/device/packed.cuh"
#include "x_transformers/kernels/cuda/dispatch.cuh"

namespace x_transformers::kernels::cuda {
namespace {

constexpr int kThreads = 256;
/// Queries whose gradients a thread sums along a diagonal.
constexpr int kDiagonalRows = 32;

unsigned blocks_of(int64_t count) {
  return static_cast<unsigned>((count + kThreads - 1) / kThreads);
}

/// body(the first number of this thread's vector), below `count` numbers.
template <int kSize, class Body>
__device__ void with_vector(int64_t count, const Body& body) {
  const int64_t at = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * kSize;
  if (at < count) body(at);
}

template <class T, int kSize>
__global__ void __launch_bounds__(kThreads) weights_kernel(GroupWeights p) {
  with_vector<kSize>(p.matrices * p.size * p.size, [&](int64_t at) {
    const auto row = at / p.size, query = row % p.size, key = at % p.size;
    float x[kSize], squares[kSize];
    Packed<T, kSize>::load(static_cast<const T*>(p.products) + at).unpack(x);
#pragma unroll
    for (int i = 0; i < kSize; ++i) {
      const auto distance = key + i - query;
      x[i] *= p.scale;
      if (p.bias != nullptr) x[i] += p.bias_scale * p.bias[p.middle + distance];
      // Not fmaxf, which makes a number of NaN.
      x[i] = x[i] < 0.0f || (p.causal && distance > 0) ? 0.0f : x[i];
      x[i] = to_float(from_float<T>(x[i]));
      squares[i] = x[i] * x[i];
    }
    Packed<T, kSize>::pack(x).store(static_cast<T*>(p.relus) + at);
    Packed<T, kSize>::pack(squares).store(static_cast<T*>(p.weights) + at);
  });
}

/// A thread has one diagonal of some rows, so that threads side by side read keys side by side.
template <class T>
__global__ void __launch_bounds__(kThreads) weights_backward_kernel(GroupWeightsBackward p) {
  const int size = static_cast<int>(p.size), diagonals = 2 * size - 1;
  const int diagonal = blockIdx.y * kThreads + threadIdx.x, distance = diagonal - (size - 1);
  if (diagonal >= diagonals) return;
  const int chunks = (size + kDiagonalRows - 1) / kDiagonalRows;
  const int64_t matrix = blockIdx.x / chunks;
  const int first = static_cast<int>(blockIdx.x % chunks) * kDiagonalRows;
  const T* relus = static_cast<const T*>(p.relus) + matrix * size * size;
  T* grads = static_cast<T*>(p.grads) + matrix * size * size;
  const bool is_hidden = p.causal && distance > 0;
  float sum = 0;
#pragma unroll 8
  for (int i = 0; i < kDiagonalRows; ++i) {
    const int query = first + i, key = query + distance;
    if (query >= size || key < 0 || key >= size) continue;
    const int64_t at = int64_t{query} * size + key;
    const T grad =
        from_float<T>(is_hidden ? 0.0f : 2.0f * to_float(relus[at]) * to_float(grads[at]));
    grads[at] = grad;
    sum += to_float(grad);
  }
  if (p.bias_grad != nullptr) p.bias_grad[int64_t{blockIdx.x} * diagonals + diagonal] = sum;
}

template <class T, int kSize>
__global__ void __launch_bounds__(kThreads) sums_kernel(SumsOfOthers p) {
  with_vector<kSize>(p.size, [&](int64_t at) {
    T* sums = static_cast<T*>(p.sums) + blockIdx.y * p.count * p.size + at;
    float so_far[kSize] = {};
    for (int64_t n = 0; n < p.count; ++n) {
      T* const own = sums + (p.backwards ? p.count - 1 - n : n) * p.size;
      float x[kSize];
      Packed<T, kSize>::load(own).unpack(x);
      Packed<T, kSize>::pack(so_far).store(own);
#pragma unroll
      for (int i = 0; i < kSize; ++i) so_far[i] += x[i];
    }
  });
}

template <class T, int kSize>
__global__ void __launch_bounds__(kThreads) gate_kernel(GateRows p) {
  with_vector<kSize>(p.rows * p.dim, [&](int64_t at) {
    const auto gate_at = at / p.dim * p.gate_stride + at % p.dim;
    float x[kSize], gate[kSize], out[kSize];
    Packed<T, kSize>::load(static_cast<const T*>(p.x) + at).unpack(x);
    Packed<T, kSize>::load(static_cast<const T*>(p.gate) + gate_at).unpack(gate);
    if (p.out_grad == nullptr) {
#pragma unroll
      for (int i = 0; i < kSize; ++i) out[i] = x[i] * gate[i];
    } else {
      float grad[kSize], gate_grad[kSize];
      Packed<T, kSize>::load(static_cast<const T*>(p.out_grad) + at).unpack(grad);
#pragma unroll
      for (int i = 0; i < kSize; ++i) {
        out[i] = grad[i] * gate[i];
        gate_grad[i] = grad[i] * x[i];
      }
      Packed<T, kSize>::pack(gate_grad).store(static_cast<T*>(p.gate_grad) + gate_at);
    }
    Packed<T, kSize>::pack(out).store(static_cast<T*>(p.out) + at);
  });
}

template <class... Pointers>
bool are_aligned(const Pointers*... pointers) {
  return (is_aligned(pointers) && ...);
}

/// body(T{}, constant of how many numbers are read at once).
template <class Body>
void with_vectors(Element element, bool is_dense, int64_t dim, const Body& body) {
  with_element(element, [&](auto number) {
    using T = decltype(number);
    constexpr int kVector = 16 / sizeof(T);
    if (is_dense && dim % kVector == 0) {
      body(number, std::integral_constant<int, kVector>());
    } else {
      body(number, std::integral_constant<int, 1>());
    }
  });
}

}  // namespace

cudaError_t group_weights(const GroupWeights& p, cudaStream_t stream) {
  const auto count = p.matrices * p.size * p.size;
  if (count == 0) return cudaSuccess;
  with_vectors(p.element, are_aligned(p.products, p.relus, p.weights), p.size,
               [&](auto number, auto vector) {
                 weights_kernel<decltype(number), vector>
                     <<<blocks_of(count / vector), kThreads, 0, stream>>>(p);
               });
  return cudaGetLastError();
}

int64_t group_weights_chunks(int64_t size) { return (size + kDiagonalRows - 1) / kDiagonalRows; }

cudaError_t group_weights_backward(const GroupWeightsBackward& p, cudaStream_t stream) {
  if (p.matrices * p.size == 0) return cudaSuccess;
  const dim3 blocks(static_cast<unsigned>(p.matrices * group_weights_chunks(p.size)),
                    blocks_of(2 * p.size - 1));
  with_element(p.element, [&](auto number) {
    weights_backward_kernel<decltype(number)><<<blocks, kThreads, 0, stream>>>(p);
  });
  return cudaGetLastError();
}

cudaError_t sums_of_others(const SumsOfOthers& p, cudaStream_t stream) {
  if (p.batch * p.count * p.size == 0) return cudaSuccess;
  with_vectors(p.element, are_aligned(p.sums), p.size, [&](auto number, auto vector) {
    const dim3 blocks(blocks_of(p.size / vector), static_cast<unsigned>(p.batch));
    sums_kernel<decltype(number), vector><<<blocks, kThreads, 0, stream>>>(p);
  });
  return cudaGetLastError();
}

cudaError_t gate_rows(const GateRows& p, cudaStream_t stream) {
  const auto count = p.rows * p.dim;
  if (count == 0) return cudaSuccess;
  const bool is_dense =
      are_aligned(p.x, p.gate, p.out_grad, p.out, p.gate_grad) && p.gate_stride % 8 == 0;
  with_vectors(p.element, is_dense, p.dim, [&](auto number, auto vector) {
    gate_kernel<decltype(number), vector><<<blocks_of(count / vector), kThreads, 0, stream>>>(p);
  });
  return cudaGetLastError();
}

}  // namespace x_transformers::kernels::cuda
