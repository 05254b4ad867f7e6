// A block has the distances of one bucket and one head.
#include "x_transformers/kernels/cuda/bucket_table.cuh"

#include "x_transformers/kernels/cuda/device/row_sum.cuh"
#include "x_transformers/kernels/cuda/device/vector.cuh"
#include "x_transformers/kernels/cuda/dispatch.cuh"

namespace x_transformers::kernels::cuda {
namespace {

constexpr int kThreads = 128;

template <class T>
__global__ void __launch_bounds__(kThreads)
    bucket_table_kernel(const __grid_constant__ BucketTable p) {
  __shared__ float room[kThreads / kWarp];
  const int64_t bucket = blockIdx.x, head = blockIdx.y;
  const int64_t own = bucket * p.heads + head, row = head * p.length;
  const int begin = p.begins[bucket] + threadIdx.x, end = p.ends[bucket];
  const T* from = static_cast<const T*>(p.from);
  T* to = static_cast<T*>(p.to);
  if (p.pass == Pass::forward) {
    const T value = from_float<T>(p.scale * to_float(from[own]));
    for (int d = begin; d < end; d += kThreads) to[row + d] = value;
    return;
  }
  float sum = 0;
  for (int d = begin; d < end; d += kThreads) sum += to_float(from[row + d]);
  sum = row_sum(sum, room);
  if (threadIdx.x == 0) to[own] = from_float<T>(p.scale * sum);
}

}  // namespace

cudaError_t bucket_table(const BucketTable& p, cudaStream_t stream) {
  if (p.buckets * p.heads == 0) return cudaSuccess;
  with_element(p.element, [&](auto number) {
    const dim3 blocks(static_cast<unsigned>(p.buckets), static_cast<unsigned>(p.heads));
    bucket_table_kernel<decltype(number)><<<blocks, kThreads, 0, stream>>>(p);
  });
  return cudaGetLastError();
}

}  // namespace x_transformers::kernels::cuda
