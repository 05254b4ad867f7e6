// Clusters of blocks, which devices have from compute capability 9.0 on.
#pragma once

#include <cooperative_groups.h>

namespace x_transformers::kernels::cuda {

/// Returns when all blocks of the cluster have come here. Only where there are clusters.
__device__ inline void wait_for_cluster() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  cooperative_groups::this_cluster().sync();
#endif
}

}  // namespace x_transformers::kernels::cuda
