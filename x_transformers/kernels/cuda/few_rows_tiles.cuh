// Linear layers of a few rows of 16 bits on tensor cores, with what stands before and after them.
#pragma once

#include <cuda_runtime_api.h>

#include "x_transformers/kernels/few_rows.h"

namespace x_transformers::kernels::cuda {

/// For params.rows from 1 to kMaxFewCudaRowsOf16Bits.
cudaError_t few_rows_in_tiles(const FewRowsOfLayers& params, cudaStream_t stream);

}  // namespace x_transformers::kernels::cuda
