// Programmatic dependent launch: a kernel begins while the one before it on the stream still runs,
// reads what does not depend on that one, such as weights, and then waits. Devices before compute
// capability 9.0 run one kernel after the other.
#pragma once

#include <cuda_runtime_api.h>

#include <utility>

namespace x_transformers::kernels::cuda {

/// Lets the next kernel begin once every block has called this.
__device__ inline void let_next_begin() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/// Returns when all kernels before this one are over and what they wrote can be read. Every thread
/// that reads or writes what an earlier kernel touches calls it first, and every kernel launched by
/// `launch_early` calls it: the next one takes its end for the end of all before.
__device__ inline void wait_for_earlier() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/// Whether the current GPU can begin a kernel before the last is over, and has clusters of blocks.
inline bool has_clusters() {
  static const bool has = [] {
    constexpr int kFirst = 9;
    int device = 0, major = 0;
    return cudaGetDevice(&device) == cudaSuccess &&
           cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) ==
               cudaSuccess &&
           major >= kFirst;
  }();
  return has;
}

struct LaunchSize {
  dim3 blocks, threads;
  size_t bytes = 0;  ///< of dynamic shared memory
  dim3 cluster = dim3(1);
};

/// Launches a kernel that may begin before the one before it is over.
template <class... Params, class... Arguments>
cudaError_t launch_early(void (*kernel)(Params...), const LaunchSize& size, cudaStream_t stream,
                         Arguments&&... arguments) {
  cudaLaunchAttribute attributes[2];
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim = {size.cluster.x, size.cluster.y, size.cluster.z};
  const bool is_cluster = size.cluster.x * size.cluster.y * size.cluster.z > 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = size.blocks;
  config.blockDim = size.threads;
  config.dynamicSmemBytes = size.bytes;
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = !has_clusters() ? 0 : is_cluster ? 2 : 1;
  return cudaLaunchKernelEx(&config, kernel, Params(std::forward<Arguments>(arguments))...);
}

}  // namespace x_transformers::kernels::cuda
