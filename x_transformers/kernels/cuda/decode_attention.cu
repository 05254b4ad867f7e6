// The kernels; what a block does is in decode_block.cuh.
#include "x_transformers/kernels/cuda/decode_attention.cuh"

#include "x_transformers/kernels/cuda/decode_block.cuh"
#include "x_transformers/kernels/cuda/device/cluster.cuh"
#include "x_transformers/kernels/cuda/device/dependent_launch.cuh"

namespace x_transformers::kernels::cuda {
namespace {

using decode::kSize;

/// Whether the parts of a row are a cluster of blocks.
__device__ bool is_cluster_of(int parts) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  return cooperative_groups::this_cluster().dim_blocks().y == parts;
#else
  return false;
#endif
}

template <class T, int kLanes, int kGroup, bool kMore>
__global__ void __launch_bounds__(decode::kThreads)
    decode_kernel(const __grid_constant__ DecodeAttention p) {
  using Block = decode::Block<T, kLanes, kGroup, kMore>;
  extern __shared__ uint4 shared[];
  const int parts = static_cast<int>(gridDim.y);
  Block block(p, static_cast<int>(blockIdx.x), {static_cast<int>(blockIdx.y), parts},
              *reinterpret_cast<typename Block::SharedRoom*>(shared));
  if (!block.brings_newest()) wait_for_earlier();
  block.load_first();
  if (block.brings_newest()) wait_for_earlier();
  let_next_begin();
  block.run();
  if (parts == 1 || !is_cluster_of(parts)) return block.write();
  block.share();
  wait_for_cluster();
  block.join();
  wait_for_cluster();  // a block stays until nobody reads its memory
}

template <class T, int kGroup>
__global__ void join_parts_kernel(const __grid_constant__ DecodeAttention p, int parts) {
  const decode::Heads<kGroup> heads(p, static_cast<int>(blockIdx.x));
  const int dim = static_cast<int>(p.dim);
  wait_for_earlier();
  let_next_begin();
  for (int at = threadIdx.x; at < kGroup * dim; at += blockDim.x) {
    const int r = at / dim, f = at % dim;
    const auto partial = [&](int part, int i) {
      return __ldcg(p.partial + ((int64_t{blockIdx.x} * parts + part) * kGroup + r) * (dim + 2) +
                    i);
    };
    float most = decode::kNothing, sum = 0, value = 0;
    for (int part = 0; part < parts; ++part) most = fmaxf(most, partial(part, dim));
    for (int part = 0; part < parts; ++part) {
      const float weight = decode::share(partial(part, dim), most);
      sum += partial(part, dim + 1) * weight;
      value += partial(part, f) * weight;
    }
    static_cast<T*>(p.out)[heads.place_in_out(r, dim) + f] =
        from_float<T>(decode::mean_of(value, sum));
  }
}

template <class T, int kLanes, int kGroup, bool kMore>
cudaError_t launch(const DecodeAttention& params, cudaStream_t stream) {
  constexpr size_t kBytes = sizeof(typename decode::Block<T, kLanes, kGroup, kMore>::SharedRoom);
  const auto rows = static_cast<unsigned>(params.batch * params.heads / kGroup);
  const dim3 blocks(rows, static_cast<unsigned>(params.splits)), threads(decode::kThreads);
  const bool joins = params.splits > 1 && params.splits <= kMaxDecodeCluster && has_clusters();
  const auto launched =
      launch_early(decode_kernel<T, kLanes, kGroup, kMore>,
                   {blocks, threads, kBytes, joins ? dim3(1, blocks.y) : dim3(1)}, stream, params);
  if (launched != cudaSuccess || params.splits == 1 || joins) return launched;
  return launch_early(join_parts_kernel<T, kGroup>, {dim3(rows), threads}, stream, params,
                      static_cast<int>(params.splits));
}

template <class T, int kLanes, bool kMore>
cudaError_t launch_group(const DecodeAttention& params, cudaStream_t stream) {
  constexpr int kDim = kLanes * kSize;
  const auto shared =
      params.batch * params.heads <= kFewDecodeHeads ? 1 : params.heads / params.kv_heads;
  // A block takes eight, four, two or one of the query heads that share a key head. Where their
  // number is odd, each reads the key head by itself, most of it from the GPU's cache: kernels for
  // more numbers would take long to compile.
#define XT_GROUP(n)                                                          \
  if constexpr (n * kDim <= kMaxDecodeGroupFeatures) {                       \
    if (shared % n == 0) return launch<T, kLanes, n, kMore>(params, stream); \
  }
  XT_GROUP(8)
  XT_GROUP(4)
  XT_GROUP(2)
  XT_GROUP(1)
#undef XT_GROUP
  return cudaErrorInvalidValue;
}

template <class T, bool kMore>
cudaError_t launch_lanes(const DecodeAttention& params, cudaStream_t stream) {
  switch (params.dim / kSize) {
    case 1:
      return launch_group<T, 1, kMore>(params, stream);
    case 2:
      return launch_group<T, 2, kMore>(params, stream);
    case 4:
      return launch_group<T, 4, kMore>(params, stream);
    case 8:
      return launch_group<T, 8, kMore>(params, stream);
    case 16:
      return launch_group<T, 16, kMore>(params, stream);
    case 32:
      return launch_group<T, 32, kMore>(params, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

template <class T>
cudaError_t launch_stages(const DecodeAttention& params, cudaStream_t stream) {
  return params.stages.any() ? launch_lanes<T, true>(params, stream)
                             : launch_lanes<T, false>(params, stream);
}

}  // namespace

cudaError_t decode_attention(const DecodeAttention& params, cudaStream_t stream) {
  if (params.batch == 0) return cudaSuccess;
  return params.element == Element::float16 ? launch_stages<__half>(params, stream)
                                            : launch_stages<__nv_bfloat16>(params, stream);
}

}  // namespace x_transformers::kernels::cuda
