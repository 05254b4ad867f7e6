#include "x_transformers/ops/rows.h"

#include <ATen/ATen.h>

namespace x_transformers {

at::Tensor with_rows(const at::Tensor& t, int64_t rows, int64_t dim) {
  if (!t.defined() || t.size(dim) != 1 || rows == 1) return t;
  auto sizes = t.sizes().vec();
  sizes[static_cast<size_t>(dim)] = rows;
  return t.expand(sizes);
}

at::Tensor cat_rows(const at::Tensor& first, const at::Tensor& second, int64_t dim) {
  return at::cat({with_rows(first, second.size(0)), with_rows(second, first.size(0))}, dim);
}

}  // namespace x_transformers
