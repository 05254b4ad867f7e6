// A few lanes share the features of a head at a position, a vector each.
#include "x_transformers/kernels/cuda/sink_terms.cuh"

#include "x_transformers/kernels/cuda/device/packed.cuh"
#include "x_transformers/kernels/cuda/device/row_sum.cuh"

namespace x_transformers::kernels::cuda {
namespace {

constexpr int kThreads = 256, kSize = 8;

template <class T>
__global__ void __launch_bounds__(kThreads) sink_terms_kernel(SinkTerms p, int lanes) {
  using Part = Packed<T, kSize>;
  const int64_t row = (int64_t{blockIdx.x} * kThreads + threadIdx.x) / lanes;
  if (row >= p.batch * p.length * p.heads) return;
  const int lane = static_cast<int>(threadIdx.x) % lanes, feature = lane * kSize;
  const bool has_part = feature < p.dim;
  const int64_t at = row * p.dim + feature;
  float out[kSize], grad[kSize], sum = 0;
  Part::load_if(has_part, static_cast<const T*>(p.out) + at).unpack(out);
  Part::load_if(has_part, static_cast<const T*>(p.out_grad) + at).unpack(grad);
#pragma unroll
  for (int i = 0; i < kSize; ++i) sum += out[i] * grad[i];
  sum = group_sum(sum, lanes);
  if (lane != 0) return;
  const int64_t head = row % p.heads, place = row / p.heads;
  const int64_t entry = place / p.length, query = place % p.length;
  const float log_sum_exp = p.log_sum_exp[(entry * p.heads + head) * p.length + query];
  p.terms[row] = -expf(p.sinks[head] - log_sum_exp) * sum;
}

template <class T>
void launch(const SinkTerms& params, cudaStream_t stream) {
  int lanes = 1;
  while (lanes * kSize < params.dim) lanes *= 2;
  const int64_t threads = params.batch * params.length * params.heads * lanes;
  sink_terms_kernel<T>
      <<<static_cast<unsigned>((threads + kThreads - 1) / kThreads), kThreads, 0, stream>>>(params,
                                                                                            lanes);
}

}  // namespace

cudaError_t sink_terms(const SinkTerms& params, cudaStream_t stream) {
  if (params.batch * params.length * params.heads == 0) return cudaSuccess;
  params.element == Element::float16 ? launch<__half>(params, stream)
                                     : launch<__nv_bfloat16>(params, stream);
  return cudaGetLastError();
}

}  // namespace x_transformers::kernels::cuda
