// A thread goes down a part of a column; the parts of a column are in one block, whose threads tell
// each other their sums first.
#include "x_transformers/kernels/cuda/device/row_sum.cuh"
#include "x_transformers/kernels/cuda/device/vector.cuh"
#include "x_transformers/kernels/cuda/dispatch.cuh"
#include "x_transformers/kernels/cuda/score_matrix.cuh"

namespace x_transformers::kernels::cuda {
namespace {

constexpr int kColumns = kWarp, kParts = 32;  ///< of a block
constexpr int kBatch = 16;                    ///< numbers that are read at once

/// A thread's part of a column: queries begin.. to below end.
struct Column {
  int key, entry, begin, end;
  int64_t offset, stride;  ///< of its first number, and of queries
  int seen_begin, seen_end;
  const bool* mask;
  int64_t mask_stride;

  __device__ explicit Column(const ScoreRows& rows)
      : key(static_cast<int>(blockIdx.x * kColumns + threadIdx.x)),
        entry(static_cast<int>(blockIdx.y)),
        stride(rows.keys),
        mask(rows.mask),
        mask_stride(rows.mask_strides[2]) {
    const auto queries = static_cast<int>(rows.queries);
    const int count = (queries + kParts - 1) / kParts;
    begin = min(queries, static_cast<int>(threadIdx.y) * count);
    end = key < rows.keys ? min(queries, begin + count) : begin;
    offset = int64_t{entry} * rows.queries * rows.keys + key;
    const auto own = static_cast<int>(key - rows.first);  // the query at this key
    seen_begin = rows.causal ? own + 1 : 0;
    seen_end =
        rows.window < 0 ? queries : static_cast<int>(min(rows.queries, own + rows.window + 1));
    own_query = own;
    if (mask != nullptr) mask += entry * rows.mask_strides[0] + key * rows.mask_strides[3];
  }
  /// Whether what this query sees of the key holds later queries back.
  __device__ bool counts(int query) const {
    return own_query > 0 && query >= seen_begin && query < seen_end && query != own_query &&
           (mask == nullptr || mask[query * mask_stride]);
  }

 private:
  int own_query;
};

/// The sum of `own` over the parts before this one, or over those after it.
template <bool kOfLater>
__device__ float sum_of_others(float own) {
  __shared__ float room[kParts][kColumns];
  room[threadIdx.y][threadIdx.x] = own;
  __syncthreads();
  float sum = 0;
#pragma unroll 8
  for (int part = 0; part < kParts; ++part) {
    const int y = threadIdx.y;
    if (kOfLater ? part > y : part < y) sum += room[part][threadIdx.x];
  }
  return sum;
}

/// kBatch numbers of a column from query `first` on, all read before any is used; 0 from `end` on.
template <class T>
__device__ void load_batch(float (&to)[kBatch], const T* numbers, int64_t stride, int first,
                           int end) {
  T read[kBatch];
#pragma unroll
  for (int i = 0; i < kBatch; ++i)
    read[i] = first + i < end ? numbers[(first + i) * stride] : from_float<T>(0);
#pragma unroll
  for (int i = 0; i < kBatch; ++i) to[i] = to_float(read[i]);
}

template <class T>
__global__ void __launch_bounds__(kColumns* kParts) selective_gate_kernel(SelectiveGate p) {
  const Column column(p.rows);
  const T* scores = static_cast<const T*>(p.scores) + column.offset;
  T* gate = static_cast<T*>(p.gate) + column.offset;
  const auto held_back = [&](int query, float score) {
    const float positive = score < 0 ? 0.0f : score;  // keeps NaN
    return column.counts(query) ? positive : 0.0f;
  };
  float own = 0, x[kBatch];
  for (int first = column.begin; first < column.end; first += kBatch) {
    load_batch(x, scores, column.stride, first, column.end);
#pragma unroll
    for (int i = 0; i < kBatch; ++i) own += held_back(first + i, x[i]);
  }
  float sum = sum_of_others<false>(own);
  for (int first = column.begin; first < column.end; first += kBatch) {
    load_batch(x, scores, column.stride, first, column.end);
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      if (first + i < column.end) gate[(first + i) * column.stride] = from_float<T>(sum);
      sum += held_back(first + i, x[i]);
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kColumns* kParts)
    selective_gate_backward_kernel(SelectiveGate p) {
  const Column column(p.rows);
  const T* scores = static_cast<const T*>(p.scores) + column.offset;
  const T* gate_grad = static_cast<const T*>(p.gate_grad) + column.offset;
  T* scores_grad = static_cast<T*>(p.scores_grad) + column.offset;
  float own = 0, grads[kBatch], x[kBatch];
  for (int first = column.begin; first < column.end; first += kBatch) {
    load_batch(grads, gate_grad, column.stride, first, column.end);
#pragma unroll
    for (int i = 0; i < kBatch; ++i) own += grads[i];
  }
  float sum = sum_of_others<true>(own);
  const int batches = (column.end - column.begin + kBatch - 1) / kBatch;
  for (int first = column.begin + (batches - 1) * kBatch; first >= column.begin; first -= kBatch) {
    load_batch(grads, gate_grad, column.stride, first, column.end);
    load_batch(x, scores, column.stride, first, column.end);
#pragma unroll
    for (int i = kBatch - 1; i >= 0; --i) {
      const bool has_gradient = column.counts(first + i) && !(x[i] <= 0.0f);
      if (first + i < column.end)
        scores_grad[(first + i) * column.stride] = from_float<T>(has_gradient ? sum : 0.0f);
      sum += grads[i];
    }
  }
}

cudaError_t run(const SelectiveGate& p, bool backward, cudaStream_t stream) {
  if (p.rows.batch * p.rows.queries * p.rows.keys == 0) return cudaSuccess;
  const dim3 blocks(static_cast<unsigned>((p.rows.keys + kColumns - 1) / kColumns),
                    static_cast<unsigned>(p.rows.batch));
  const dim3 threads(kColumns, kParts);
  const auto launch = [&](auto number) {
    using T = decltype(number);
    if (backward) {
      selective_gate_backward_kernel<T><<<blocks, threads, 0, stream>>>(p);
    } else {
      selective_gate_kernel<T><<<blocks, threads, 0, stream>>>(p);
    }
  };
  p.rows.element == Element::bfloat16 ? launch(__nv_bfloat16{}) : launch(__half{});
  return cudaGetLastError();
}

}  // namespace

cudaError_t selective_gate_forward(const SelectiveGate& params, cudaStream_t stream) {
  return run(params, false, stream);
}

cudaError_t selective_gate_backward(const SelectiveGate& params, cudaStream_t stream) {
  return run(params, true, stream);
}

}  // namespace x_transformers::kernels::cuda
