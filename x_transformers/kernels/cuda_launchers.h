// The CUDA kernels as the rest of the library sees them: a table of functions that
// libx_transformers_cuda.so exports. No CUDA header is needed to call them.
#pragma once

#include <cstdint>

#include "x_transformers/kernels/norm.h"

namespace x_transformers::kernels {

/// Functions launch on the current stream of `device` and do not wait. They throw c10::Error where
/// a launch fails.
struct CudaLaunchers {
  /// What parameters of these sizes look like: a library of another version has another layout.
  uint64_t layout = sizeof(NormForward) + 1024 * sizeof(NormBackward);

  /// y = x / max(|x|, epsilon) * scale * gain, for dim <= kMostCudaNormFeatures.
  void (*l2_norm_forward)(const NormForward& params, int8_t device) = nullptr;
  void (*l2_norm_backward)(const NormBackward& params, int8_t device) = nullptr;
  /// The `chunks` that l2_norm_backward wants; 0 for few rows.
  int64_t (*norm_chunks)(int64_t rows, int64_t dim) = nullptr;
};

inline constexpr int64_t kMostCudaNormFeatures = 16384;

/// What libx_transformers_cuda.so exports, under the name kCudaLaunchers.
using GetCudaLaunchers = const CudaLaunchers* (*)();
inline constexpr const char* kCudaLaunchers = "x_transformers_cuda_launchers";

}  // namespace x_transformers::kernels
