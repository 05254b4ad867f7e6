// A thread has a vector of columns and goes down the rows of its chunk, so the gradient of the bias
// is summed in registers on the way. Of a gated unit it has the same columns of both halves.
#include "x_transformers/kernels/cuda/activation.cuh"

#include <algorithm>

#include "x_transformers/kernels/cuda/curves.cuh"
#include "x_transformers/kernels/cuda/device/packed.cuh"
#include "x_transformers/kernels/cuda/dispatch.cuh"

namespace x_transformers::kernels::cuda {
namespace {

constexpr int kThreads = 128;
/// Blocks that each multiprocessor has at once, and the multiprocessors that the rows are cut for:
/// a last block that ran alone would cost as much as all.
constexpr int kBlocksOfEach = 6, kMultiprocessors = 132;

struct Forward {
  const void *x, *bias;
  void* y;
  int64_t rows;
  int dim;
};

struct Backward {
  const void *x, *bias, *y_grad;
  void* x_grad;
  float* bias_grad;
  int64_t rows;
  int dim;
};

/// The rows first, first + step, ... of a thread.
struct RowsOfThread {
  int64_t begin, end;
  __device__ explicit RowsOfThread(int64_t rows) {
    const int64_t size = (rows + gridDim.y - 1) / gridDim.y;
    begin = int64_t{blockIdx.y} * size;
    end = begin + size < rows ? begin + size : rows;
  }
};

template <class T, int kSize>
__device__ void load_floats(const void* memory, int64_t at, float (&values)[kSize]) {
  const auto loaded = Vector<T, kSize>::load(static_cast<const T*>(memory) + at);
#pragma unroll
  for (int i = 0; i < kSize; ++i) values[i] = to_float(loaded.values[i]);
}

template <class T, int kSize>
__device__ void load_bias(const void* bias, int at, float (&values)[kSize]) {
  if (bias != nullptr) return load_floats<T>(bias, at, values);
#pragma unroll
  for (int i = 0; i < kSize; ++i) values[i] = 0.0f;
}

/// kTogether rows of a vector of columns are read before the first is used, so that they are on
/// their way together.
template <class T, int kSize, int kTogether>
struct Rows {
  Packed<T, kSize> rows[kTogether];

  __device__ void load(const void* memory, int64_t at, int64_t stride, int64_t count) {
#pragma unroll
    for (int n = 0; n < kTogether; ++n)
      rows[n] =
          Packed<T, kSize>::load_if(n < count, static_cast<const T*>(memory) + at + n * stride);
  }
};

template <class T, int kSize, ActivationKind kKind, bool kGated>
__global__ void __launch_bounds__(kThreads, kBlocksOfEach) activation_forward_kernel(Forward p) {
  using Act = Curve<kKind, sizeof(T) == 4>;
  constexpr int kTogether = kGated ? 3 : 4;
  const int column = (blockIdx.x * kThreads + threadIdx.x) * kSize;
  if (column >= p.dim) return;
  const RowsOfThread rows(p.rows);
  float bias[kSize], gate_bias[kSize];
  load_bias<T>(p.bias, column, bias);
  if (kGated) load_bias<T>(p.bias, column + p.dim, gate_bias);
  const int64_t x_dim = kGated ? 2 * p.dim : p.dim;
  for (int64_t row = rows.begin; row < rows.end; row += kTogether) {
    Rows<T, kSize, kTogether> x, gates;
    x.load(p.x, row * x_dim + column, x_dim, rows.end - row);
    if constexpr (kGated) gates.load(p.x, row * x_dim + p.dim + column, x_dim, rows.end - row);
#pragma unroll
    for (int n = 0; n < kTogether; ++n) {
      if (row + n >= rows.end) break;
      float y[kSize];
      x.rows[n].unpack(y);
      if constexpr (kGated) {
        float gate[kSize];
        gates.rows[n].unpack(gate);
#pragma unroll
        for (int i = 0; i < kSize; ++i)
          y[i] = (y[i] + bias[i]) * Act::value(gate[i] + gate_bias[i]);
      } else {
#pragma unroll
        for (int i = 0; i < kSize; ++i) y[i] = Act::value(y[i] + bias[i]);
      }
      Packed<T, kSize>::pack(y).store(static_cast<T*>(p.y) + (row + n) * p.dim + column);
    }
  }
}

template <class T, int kSize, ActivationKind kKind, bool kGated>
__global__ void __launch_bounds__(kThreads, kBlocksOfEach) activation_backward_kernel(Backward p) {
  using Act = Curve<kKind, sizeof(T) == 4>;
  constexpr int kTogether = kGated ? 2 : 4;
  const int column = (blockIdx.x * kThreads + threadIdx.x) * kSize;
  if (column >= p.dim) return;
  const RowsOfThread rows(p.rows);
  const int64_t x_dim = kGated ? 2 * p.dim : p.dim;
  float sums[kSize] = {}, gate_sums[kSize] = {};
  for (int64_t row = rows.begin; row < rows.end; row += kTogether) {
    Rows<T, kSize, kTogether> x, gates, grads;
    const int64_t left = rows.end - row;
    x.load(p.x, row * x_dim + column, x_dim, left);
    if constexpr (kGated) gates.load(p.x, row * x_dim + p.dim + column, x_dim, left);
    grads.load(p.y_grad, row * p.dim + column, p.dim, left);
    float bias[kSize], gate_bias[kSize];  // from the cache, each time
    load_bias<T>(p.bias, column, bias);
    if (kGated) load_bias<T>(p.bias, column + p.dim, gate_bias);
#pragma unroll
    for (int n = 0; n < kTogether; ++n) {
      if (n >= left) break;
      float grad[kSize], values[kSize];
      x.rows[n].unpack(values);
      grads.rows[n].unpack(grad);
      T* x_grad = static_cast<T*>(p.x_grad) + (row + n) * x_dim + column;
      if constexpr (kGated) {
        float gate[kSize], gate_grad[kSize];
        gates.rows[n].unpack(gate);
#pragma unroll
        for (int i = 0; i < kSize; ++i) {
          float value, slope;
          Act::both(gate[i] + gate_bias[i], value, slope);
          gate_grad[i] = grad[i] * (values[i] + bias[i]) * slope;
          grad[i] *= value;
          sums[i] += grad[i];
          gate_sums[i] += gate_grad[i];
        }
        Packed<T, kSize>::pack(gate_grad).store(x_grad + p.dim);
      } else {
#pragma unroll
        for (int i = 0; i < kSize; ++i) {
          float value, slope;
          Act::both(values[i] + bias[i], value, slope);
          grad[i] *= slope;
          sums[i] += grad[i];
        }
      }
      Packed<T, kSize>::pack(grad).store(x_grad);
    }
  }
  if (p.bias_grad == nullptr) return;
  float* partial = p.bias_grad + blockIdx.y * x_dim + column;
#pragma unroll
  for (int i = 0; i < kSize; ++i) {
    partial[i] = sums[i];
    if (kGated) partial[p.dim + i] = gate_sums[i];
  }
}

unsigned strips_of(int64_t dim, int size) {
  const int64_t columns = int64_t{kThreads} * size;
  return static_cast<unsigned>((dim + columns - 1) / columns);
}

template <class T, int kSize, ActivationKind kKind, bool kGated>
void launch(const ActivationForward& params, cudaStream_t stream) {
  const Forward p{params.x, params.bias, params.y, params.rows, static_cast<int>(params.dim)};
  const dim3 blocks(strips_of(params.dim, kSize),
                    static_cast<unsigned>(activation_chunks(params.rows, params.dim)));
  activation_forward_kernel<T, kSize, kKind, kGated><<<blocks, kThreads, 0, stream>>>(p);
}

template <class T, int kSize, ActivationKind kKind, bool kGated>
void launch(const ActivationBackward& params, cudaStream_t stream) {
  const Backward p{params.x,
                   params.bias,
                   params.y_grad,
                   params.x_grad,
                   params.bias_grad,
                   params.rows,
                   static_cast<int>(params.dim)};
  const dim3 blocks(strips_of(params.dim, kSize),
                    static_cast<unsigned>(activation_chunks(params.rows, params.dim)));
  activation_backward_kernel<T, kSize, kKind, kGated><<<blocks, kThreads, 0, stream>>>(p);
}

template <class T, int kSize, ActivationKind kKind, class Params>
void launch_gated_or_not(const Params& params, cudaStream_t stream) {
  params.gated ? launch<T, kSize, kKind, true>(params, stream)
               : launch<T, kSize, kKind, false>(params, stream);
}

template <class T, int kSize, class Params>
void launch_kind(const Params& params, cudaStream_t stream) {
  switch (params.kind) {
#define XT_KIND(kind)        \
  case ActivationKind::kind: \
    return launch_gated_or_not<T, kSize, ActivationKind::kind>(params, stream);
    XT_KIND(identity)
    XT_KIND(relu)
    XT_KIND(relu_squared)
    XT_KIND(gelu)
    XT_KIND(gelu_tanh)
    XT_KIND(silu)
    XT_KIND(sigmoid)
    XT_KIND(tanh)
#undef XT_KIND
  }
}

bool are_aligned(const ActivationForward& p) {
  return is_aligned(p.x) && is_aligned(p.y) && is_aligned(p.bias);
}
bool are_aligned(const ActivationBackward& p) {
  return is_aligned(p.x) && is_aligned(p.y_grad) && is_aligned(p.x_grad) && is_aligned(p.bias);
}

template <class Params>
cudaError_t run(const Params& params, cudaStream_t stream) {
  if (params.rows == 0 || params.dim == 0) return cudaSuccess;
  with_element(params.element, [&](auto number) {
    using T = decltype(number);
    constexpr int kVector = 16 / sizeof(T);
    params.dim % kVector == 0 && are_aligned(params) ? launch_kind<T, kVector>(params, stream)
                                                     : launch_kind<T, 1>(params, stream);
  });
  return cudaGetLastError();
}

}  // namespace

cudaError_t activation_forward(const ActivationForward& params, cudaStream_t stream) {
  return run(params, stream);
}

cudaError_t activation_backward(const ActivationBackward& params, cudaStream_t stream) {
  return run(params, stream);
}

int64_t activation_chunks(int64_t rows, int64_t dim) {
  // Below four rows a chunk its sums would be a good part of what it reads.
  constexpr int64_t kBlocks = kBlocksOfEach * kMultiprocessors, kColumns = kThreads * 8,
                    kMinRows = 4;
  const auto strips = (dim + kColumns - 1) / kColumns;
  const auto most = std::max<int64_t>(1, rows / kMinRows);
  return std::min({std::max<int64_t>(1, kBlocks / strips), most, int64_t{65535}});
}

}  // namespace x_transformers::kernels::cuda
