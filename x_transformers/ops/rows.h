// Batch entries (rows), the first dimension of most inputs. A single one is broadcast to all.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace x_transformers {

/// t with its one row along `dim` repeated to `rows`; t itself where it is undefined or has
/// several.
at::Tensor with_rows(const at::Tensor& t, int64_t rows, int64_t dim = 0);

/// `first` and `second` joined along `dim`, where either may have one row for all.
at::Tensor cat_rows(const at::Tensor& first, const at::Tensor& second, int64_t dim);

}  // namespace x_transformers
