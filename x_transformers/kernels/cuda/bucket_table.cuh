// A table of distances from numbers of buckets, on CUDA.
#pragma once

#include <cuda_runtime_api.h>

#include "x_transformers/kernels/bucket_table.h"

namespace x_transformers::kernels::cuda {

cudaError_t bucket_table(const BucketTable& params, cudaStream_t stream);

}  // namespace x_transformers::kernels::cuda
