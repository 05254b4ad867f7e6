// Batch entries (rows), the first dimension of most inputs. A single one stands for all.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace x_transformers {

/// Finds the batch size of a call from its inputs.
class RowCount {
 public:
  /// Looks at t, which has rows if it is defined and has `rank` dimensions or more.
  void add(const at::Tensor& t, int64_t rank);
  /// That of the first input with several rows; 1 where none has.
  int64_t rows() const { return rows_; }

 private:
  int64_t rows_ = 1;
};

/// t with its one row along `dim` repeated to `rows`; t itself where it is undefined or has
/// several.
at::Tensor with_rows(const at::Tensor& t, int64_t rows, int64_t dim = 0);

/// `first` and `second` joined along `dim`, where either may have one row for all.
at::Tensor cat_rows(const at::Tensor& first, const at::Tensor& second, int64_t dim);

}  // namespace x_transformers
