// Our CUDA kernels, from libx_transformers_cuda.so.
#pragma once

#include "x_transformers/core/notice.h"
#include "x_transformers/kernels/cuda_launchers.h"

namespace x_transformers {

/// The table of launchers, or why there is none.
struct OurCudaKernels {
  const kernels::CudaLaunchers* launchers = nullptr;
  Notice reason;  ///< is_empty (core/reason.h): there is one
};

/// Loads the library at the first call, which must come after that of LibTorch's CUDA half: call
/// it for tensors on a CUDA device.
const OurCudaKernels& our_cuda_kernels();

}  // namespace x_transformers
