// Which keys of a static cache exist, as kernels are told.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace x_transformers {

/// How many keys of a static cache [b, h, capacity, d] exist, as kernels for sequences of different
/// lengths want it: each of its b * h rows is a sequence that one query follows. int32, on the
/// device; all undefined: the cache is not static.
struct FilledKeys {
  at::Tensor count;         ///< [b * h] keys that exist, the query's own among them
  at::Tensor key_starts;    ///< [b * h + 1] 0, capacity, 2 capacity ...
  at::Tensor query_starts;  ///< [b * h + 1] 0, 1, 2 ...
  int64_t capacity = 0;

  bool defined() const { return count.defined(); }
  /// The first `rows` rows.
  FilledKeys first(int64_t rows) const;
};

}  // namespace x_transformers
