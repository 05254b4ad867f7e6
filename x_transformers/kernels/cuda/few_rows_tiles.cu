// The kernels; what a block does is in few_rows_block.cuh.
#include "x_transformers/kernels/cuda/few_rows_tiles.cuh"

#include <algorithm>

#include "x_transformers/kernels/cuda/device/dependent_launch.cuh"
#include "x_transformers/kernels/cuda/few_rows_block.cuh"

namespace x_transformers::kernels::cuda {
namespace {

using few_rows::Plan;
using few_rows::Staged;

template <class Block>
__global__ void __launch_bounds__(few_rows::kThreads)
    few_rows_tiles_kernel(const __grid_constant__ Plan plan) {
  extern __shared__ uint4 shared[];
  char* sums = reinterpret_cast<char*>(shared);
  char* room = sums + Block::kSumBytes;
  const Staged staged(Block::kWeightBytes, plan.call.dim);
  Block block(plan, staged, room, sums);
  if (!plan.call.weights_are_old) wait_for_earlier();
  block.load_first();
  wait_for_earlier();
  let_next_begin();
  few_rows::stage_rows<typename Block::Number>(plan, staged, room);
  block.run();
}

/// Blocks that fill the GPU: more outputs come in turns.
int most_blocks() {
  static const int blocks = [] {
    constexpr int kOfEach = 2;
    int device = 0, count = 0;
    if (cudaGetDevice(&device) != cudaSuccess ||
        cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device) != cudaSuccess)
      count = 1;
    return count * kOfEach;
  }();
  return blocks;
}

/// Whether the rows go through shared memory: always to be normalised, else if they are short.
bool stages_rows(const FewRowsOfLayers& params) {
  constexpr int kMaxCopied = 48 * 1024;
  return params.norm.kind != FewRowsNorm::Kind::none ||
         Staged(0, params.dim).bytes(params.rows) <= kMaxCopied;
}

template <class Block>
cudaError_t launch(const FewRowsOfLayers& params, cudaStream_t stream) {
  constexpr int kUnasked = 48 * 1024;  // shared memory that a kernel may have unasked
  Plan plan(params, Block::kOutputs);
  plan.stages_x = stages_rows(params);
  const auto kernel = few_rows_tiles_kernel<Block>;
  const int bytes =
      Block::kSumBytes + (plan.stages_x ? Staged(Block::kWeightBytes, params.dim).bytes(params.rows)
                                        : Block::kWeightBytes);
  if (bytes > kUnasked) {
    const auto allowed =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    if (allowed != cudaSuccess) return allowed;
  }
  const dim3 blocks(std::min(plan.groups, most_blocks()));
  return launch_early(kernel, {blocks, dim3(few_rows::kThreads), static_cast<size_t>(bytes)},
                      stream, plan);
}

template <class Weights, bool kUpper>
cudaError_t launch_rows(const FewRowsOfLayers& params, cudaStream_t stream) {
  // Where there are few outputs, smaller groups keep more of the GPU busy.
  constexpr int64_t kManyOutputs = 1536;
  int64_t outputs = 0;
  for (int i = 0; i < params.count; ++i) outputs += params.layers[i].dim_out;
  if (params.gated) return launch<few_rows::Block<Weights, 2, 8, kUpper, true>>(params, stream);
  if (outputs >= kManyOutputs)
    return launch<few_rows::Block<Weights, 2, 8, kUpper, false>>(params, stream);
  return launch<few_rows::Block<Weights, 1, 16, kUpper, false>>(params, stream);
}

template <class Weights>
cudaError_t launch_weights(const FewRowsOfLayers& params, cudaStream_t stream) {
  return params.rows > few_rows::kTile ? launch_rows<Weights, true>(params, stream)
                                       : launch_rows<Weights, false>(params, stream);
}

template <class T>
cudaError_t launch_type(const FewRowsOfLayers& params, cudaStream_t stream) {
  switch (params.weight_bits) {
    case 8:
      return launch_weights<few_rows::QuantizedWeights<T, 8>>(params, stream);
    case 4:
      return launch_weights<few_rows::QuantizedWeights<T, 4>>(params, stream);
    default:
      return launch_weights<few_rows::PlainWeights<T>>(params, stream);
  }
}

}  // namespace

cudaError_t few_rows_in_tiles(const FewRowsOfLayers& params, cudaStream_t stream) {
  return params.element == Element::float16 ? launch_type<__half>(params, stream)
                                            : launch_type<__nv_bfloat16>(params, stream);
}

}  // namespace x_transformers::kernels::cuda
