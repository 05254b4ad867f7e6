// A split of rows into chunks that does not depend on the number of threads, for kernels that also
// sum over rows.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdint>

namespace x_transformers::kernels {

/// Chunks that `rows` rows are split into: at most 64, of at least 32 rows each.
inline int64_t row_chunks(int64_t rows) { return std::min<int64_t>(64, (rows + 31) / 32); }

/// Calls body(chunk, begin, end) for every chunk, in parallel; the last ones may be empty.
template <class Body>
void for_row_chunks(int64_t rows, const Body& body) {
  const int64_t chunks = row_chunks(rows);
  if (chunks == 0) return;
  const int64_t per_chunk = (rows + chunks - 1) / chunks;
  at::parallel_for(0, chunks, 1, [&](int64_t first, int64_t last) {
    for (int64_t chunk = first; chunk < last; ++chunk) {
      const int64_t begin = std::min(rows, chunk * per_chunk);
      body(chunk, begin, std::min(rows, begin + per_chunk));
    }
  });
}

/// Rows for one task of a loop without sums, so that a task touches about 16 thousand elements.
inline int64_t rows_per_task(int64_t elements_per_row) {
  return std::max<int64_t>(1, 16384 / std::max<int64_t>(1, elements_per_row));
}

}  // namespace x_transformers::kernels
