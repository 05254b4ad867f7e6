// A row of a matrix of scores: where it is, and which of its keys are visible.
#pragma once

#include <cstdint>

#include "x_transformers/kernels/cuda/device/matrix_tile.cuh"
#include "x_transformers/kernels/cuda/device/vector.cuh"
#include "x_transformers/kernels/score_matrix.h"

namespace x_transformers::kernels::cuda {

class ScoreRow {
 public:
  /// The row of this number, over all entries and heads.
  __device__ ScoreRow(const ScoreRows& rows, int64_t row)
      : ScoreRow(rows, static_cast<int>(row / rows.queries), static_cast<int>(row % rows.queries)) {
  }
  __device__ ScoreRow(const ScoreRows& rows, int matrix, int query)
      : rows_(rows), row_(matrix * rows.queries + query), query_(query) {
    head_ = matrix % static_cast<int>(rows.heads);
    entry_ = matrix / static_cast<int>(rows.heads);
    const int64_t place = rows.first + query_;
    end_ = static_cast<int>(rows.keys);
    if (rows.causal && place < end_) end_ = place < 0 ? 0 : static_cast<int>(place + 1);
    begin_ = 0;
    if (rows.window >= 0 && place > rows.window) begin_ = static_cast<int>(place - rows.window);
    if (rows.mask != nullptr) {
      mask_ = rows.mask + entry_ * rows.mask_strides[0] + head_ * rows.mask_strides[1] +
              query_ * rows.mask_strides[2];
    }
  }

  __device__ int query() const { return query_; }
  __device__ int entry() const { return entry_; }
  /// Keys from begin() to below end() are visible, but for the mask.
  __device__ int begin() const { return begin_; }
  __device__ int end() const { return end_; }
  /// The first number of the row in memory.
  __device__ int64_t offset() const { return row_ * rows_.keys; }

  __device__ bool sees(int key) const {
    return key >= begin_ && key < end_ && (mask_ == nullptr || mask_[key * rows_.mask_strides[3]]);
  }
  /// Whether all keys from `key` to below key + count are visible; false where there is a mask.
  __device__ bool sees_all(int key, int count) const {
    return mask_ == nullptr && key >= begin_ && key + count <= end_;
  }
  /// Whether any key from `key` to below key + count may be visible.
  __device__ bool may_see(int key, int count) const { return key + count > begin_ && key < end_; }

 private:
  const ScoreRows& rows_;
  int64_t row_;
  int query_, head_, entry_, begin_, end_;
  const bool* mask_ = nullptr;
};

/// Numbers of 16 bits at `memory`, rounded from these.
template <class T, int kSize>
__device__ void store_rounded(const float (&x)[kSize], T* memory) {
  if constexpr (kSize == 1) {
    *memory = from_float<T>(x[0]);
  } else {
    Vector<uint32_t, kSize / 2> pairs;
#pragma unroll
    for (int i = 0; i < kSize / 2; ++i) pairs.values[i] = packed<T>(x[2 * i], x[2 * i + 1]);
    pairs.store(reinterpret_cast<uint32_t*>(memory));
  }
}

}  // namespace x_transformers::kernels::cuda
