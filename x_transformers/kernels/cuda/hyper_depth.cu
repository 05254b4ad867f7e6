// What a layer's output and the rest of the streams become: each stream the rest and a share of the
// output.
#include "x_transformers/kernels/cuda/hyper_connection_block.cuh"

namespace x_transformers::kernels::cuda {
namespace {

using namespace hyper;

struct DepthForward {
  const void *out, *sum;
  const float* beta;
  void* streams;
  Sizes sizes;
};

template <class T, int kSize>
__global__ void hyper_depth_forward_kernel(DepthForward p) {
  using Part = Packed<T, kSize>;
  const int64_t at = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * kSize;
  if (at >= p.sizes.tokens * p.sizes.dim) return;
  const int64_t token = at / p.sizes.dim;
  float out[kSize], sum[kSize];
  Part::load(static_cast<const T*>(p.out) + at).unpack(out);
  Part::load(static_cast<const T*>(p.sum) + at).unpack(sum);
  T* to = static_cast<T*>(p.streams) + p.sizes.row_of(token) + at % p.sizes.dim;
  for (int stream = 0; stream < p.sizes.streams; ++stream) {
    const float beta = p.beta[token * p.sizes.streams + stream];
    float joined[kSize];
#pragma unroll
    for (int i = 0; i < kSize; ++i) joined[i] = out[i] * beta + sum[i];
    Part::pack(joined).store(to + stream * p.sizes.stride());
  }
}

struct DepthBackward {
  const void *streams_grad, *out;
  const float* beta;
  void *out_grad, *sum_grad;
  float* beta_grad;
  Sizes sizes;
};

template <class T, int kSize, int kParts, int kStreams>
__global__ void __launch_bounds__(kThreads) hyper_depth_backward_kernel(DepthBackward p) {
  using Part = Packed<T, kSize>;
  __shared__ float room[kWarpsOfShortRows * kStreams];
  const int64_t token = group_of_thread();
  if (token >= p.sizes.tokens) return;  // whole groups
  const int dim = p.sizes.dim, streams = p.sizes.streams;
  const T* row_grad = static_cast<const T*>(p.streams_grad) + p.sizes.row_of(token);
  Part out[kParts];
  float out_grads[kParts][kSize] = {}, sum_grads[kParts][kSize] = {};
  for_parts_of_row<kSize, kParts>(dim, [&](int part, int at) {
    out[part] = Part::load(static_cast<const T*>(p.out) + token * dim + at);
  });
  for (int first = 0; first < streams; first += kStreams) {
    Part kept[kStreams][kParts];
    load_streams(row_grad, p.sizes, first, kept);
    float beta[kStreams], along[kStreams] = {};
#pragma unroll
    for (int j = 0; j < kStreams; ++j)
      beta[j] = p.beta[token * streams + min(first + j, streams - 1)];
    for_parts_of_row<kSize, kParts>(dim, [&](int part, int) {
      float values[kSize];
      out[part].unpack(values);
#pragma unroll
      for (int j = 0; j < kStreams; ++j) {
        float grads[kSize];
        kept[j][part].unpack(grads);
#pragma unroll
        for (int i = 0; i < kSize; ++i) {
          along[j] += grads[i] * values[i];
          out_grads[part][i] += beta[j] * grads[i];
          sum_grads[part][i] += grads[i];
        }
      }
    });
    row_sums(along, room);
#pragma unroll
    for (int j = 0; j < kStreams; ++j)
      if (threadIdx.x == 0 && first + j < streams)
        p.beta_grad[token * streams + first + j] = along[j];
  }
  for_parts_of_row<kSize, kParts>(dim, [&](int part, int at) {
    Part::pack(out_grads[part]).store(static_cast<T*>(p.out_grad) + token * dim + at);
    Part::pack(sum_grads[part]).store(static_cast<T*>(p.sum_grad) + token * dim + at);
  });
}

template <class T, int kSize>
void launch(const HyperDepth& params, cudaStream_t stream) {
  const DepthForward p{params.out, params.sum, params.beta, params.streams, sizes_of(params)};
  const int64_t vectors = p.sizes.tokens * params.dim / kSize;
  const auto blocks = static_cast<unsigned>((vectors + 255) / 256);
  hyper_depth_forward_kernel<T, kSize><<<blocks, 256, 0, stream>>>(p);
}

template <class T, int kSize>
void launch(const HyperDepthBackward& params, cudaStream_t stream) {
  const DepthBackward p{params.streams_grad, params.out,       params.beta,     params.out_grad,
                        params.sum_grad,     params.beta_grad, sizes_of(params)};
  with_parts<kSize>(params.dim, [&](auto parts) {
    const auto block = block_for(params.dim, kSize, parts);
    const auto blocks = static_cast<unsigned>((p.sizes.tokens + block.y - 1) / block.y);
    constexpr int kStreams = AtOnce<kSize, 1>::kForward;
    hyper_depth_backward_kernel<T, kSize, parts, kStreams><<<blocks, block, 0, stream>>>(p);
  });
}

bool are_aligned(const HyperDepth& p) { return hyper::are_aligned({p.out, p.sum, p.streams}); }
bool are_aligned(const HyperDepthBackward& p) {
  return hyper::are_aligned({p.streams_grad, p.out, p.out_grad, p.sum_grad});
}

template <class Params>
cudaError_t run(const Params& params, cudaStream_t stream) {
  return with_vectors(params, are_aligned(params), [&](auto number, auto size) {
    launch<decltype(number), size>(params, stream);
  });
}

}  // namespace

cudaError_t hyper_depth_forward(const HyperDepth& params, cudaStream_t stream) {
  return run(params, stream);
}

cudaError_t hyper_depth_backward(const HyperDepthBackward& params, cudaStream_t stream) {
  return run(params, stream);
}

}  // namespace x_transformers::kernels::cuda
