// Sums down the columns of a matrix on CUDA: float32, bfloat16 and float16, summed in float32.
#pragma once

#include <cuda_runtime_api.h>

#include "x_transformers/kernels/column_sums.h"

namespace x_transformers::kernels::cuda {

cudaError_t column_sums(const ColumnSums& params, cudaStream_t stream);

/// How many parts the rows are cut into, so that all multiprocessors have some.
int64_t column_sum_chunks(int64_t rows, int64_t columns);

}  // namespace x_transformers::kernels::cuda
